"""dvc.yaml lists what each stage depends on; here that list is held against what the code really imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from trainyard.fingerprint import source_path, stage_code
from trainyard.recipe import Recipe, read_all

SHARED = {
    "src/trainyard/data/digits.py",
    "src/trainyard/data/groups.py",
    "src/trainyard/data/image_files.py",
    "src/trainyard/data/image_folder.py",
    "src/trainyard/data/image_integrity.py",
    "src/trainyard/data/image_kinds.py",
    "src/trainyard/data/image_pieces.py",
    "src/trainyard/data/image_tree.py",
    "src/trainyard/data/links.py",
    "src/trainyard/data/parallel.py",
    "src/trainyard/data/text_checks.py",
    "src/trainyard/models/dropout.py",
    "src/trainyard/models/resnet.py",
    "src/trainyard/models/whitening.py",
    "src/trainyard/tasks",
}
"""Listed for all sources and families, though not all use them: dvc.yaml cannot know which do."""


STAGES = ("prepare", "train", "evaluate", "gate", "export")


def stages(root: Path) -> dict[str, Any]:
    values = YAML(typ="safe", pure=True).load(root / "dvc.yaml")
    return {name: stage["do"] for name, stage in values["stages"].items()}


def recipes(root: Path) -> list[Recipe]:
    return read_all(root / "params.yaml")[0]


def listed_code(root: Path, stage: str, recipe: Recipe) -> set[str]:
    values = {
        "key": recipe.name,
        "item.family": recipe.family,
        "item.data.source": recipe.data.source,
        "item.data.path": recipe.data.path,
    }
    deps = [re.sub(r"\$\{([a-z.]+)\}", lambda found: values[found[1]], dep) for dep in stages(root)[stage]["deps"]]
    found = set()
    for dep in deps:
        if dep.startswith("src/"):
            path = root / dep
            assert path.exists(), f"{stage} of {recipe.name} depends on {dep}, which does not exist"
            found.add(dep)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_lists_the_code_that_can_change_its_result(root: Path, stage: str) -> None:
    for recipe in recipes(root):
        needed = {str(source_path(name).relative_to(root)) for name in stage_code(stage, recipe)}
        listed = listed_code(root, stage, recipe)
        covered = {path for path in needed if path in listed or str(Path(path).parent) in listed}
        assert needed - covered == set(), f"{stage} of {recipe.name} uses these, dvc.yaml does not list them"
        assert listed - needed - SHARED == set(), f"{stage} of {recipe.name} does not use these"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_a_script_that_runs_from_the_projects_folder(root: Path, stage: str) -> None:
    command = stages(root)[stage]["cmd"]
    assert command.startswith(f"PYTHONPATH=src python pipeline/{stage}.py ${{key}} ")
    done = subprocess.run(
        [sys.executable, f"pipeline/{stage}.py", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "usage: " in done.stdout


def test_no_stage_depends_on_where_it_runs(root: Path) -> None:
    for stage in stages(root).values():
        assert all(f"{name}.".startswith("recipes.${key}.") for name in stage["params"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_that_does_not_exist_is_refused_by_every_stage(root: Path, stage: str, tmp_path: Path) -> None:
    places = [str(tmp_path / str(number)) for number in range(stages(root)[stage]["cmd"].count("${key}") - 1)]
    done = subprocess.run(
        [sys.executable, f"pipeline/{stage}.py", "nobody", *places],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "DVC_ROOT": str(tmp_path)},
    )
    assert done.returncode == 2, done.stderr
    assert "recipes has no 'nobody'; it has cnn, unet, lstm" in done.stderr
    assert "Traceback" not in done.stderr


PREPARE_NEEDS_NOT = ("torch", "pytorch_lightning", "ray", "mlflow", "onnx", "matplotlib")
SCORING_NEEDS_NOT = ("pytorch_lightning", "ray", "torchmetrics")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("trainyard.data.prepare", PREPARE_NEEDS_NOT),
        ("trainyard.training.fit", ("ray", "mlflow", "onnx", "sklearn")),
        ("trainyard.evaluation.evaluate", (*SCORING_NEEDS_NOT, "mlflow", "onnx")),
        ("trainyard.evaluation.gate", (*PREPARE_NEEDS_NOT, "sklearn")),
        ("trainyard.export.export", (*SCORING_NEEDS_NOT, "mlflow", "sklearn", "matplotlib")),
        ("trainyard.cli", (*PREPARE_NEEDS_NOT, "sklearn", "numpy")),
    ],
)
def test_nothing_is_imported_that_is_not_used(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
