"""What each way in imports, as it really runs: a package that nobody needs would cost every run its seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, make_project

pytestmark = pytest.mark.pipeline
LOOK = """\
import atexit, json, runpy, sys
from pathlib import Path

out, script, *arguments = sys.argv[1:]
sys.argv = [script, *arguments]
atexit.register(lambda: Path(out).write_text(json.dumps(sorted(sys.modules))))
runpy.run_path(script, run_name="__main__")
"""
FOLDERS = ("data/prepared/cnn", "models/cnn", "reports/cnn")
FITTING = ("pytorch_lightning", "torchmetrics")
TABLES_AND_PLOTS = ("pandas", "pyarrow", "matplotlib", "omegaconf")
ONNX = ("onnx", "onnxruntime", "onnxscript")
NOBODY = ("ray", "mlflow", "sqlalchemy")
"""A process of its own talks to MLflow."""


@pytest.fixture(scope="module")
def small(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run."""
    return make_project(root, tmp_path_factory.mktemp("imports"), {"epochs: 6": "epochs: 1"})


@pytest.fixture(scope="module")
def stages(small: Project) -> dict[str, set[str]]:
    """What each stage of one recipe had imported at its end, in one process."""
    return {
        stage: modules(small, f"pipeline/{stage}.py", "cnn", *(FOLDERS[:1] if stage == "prepare" else FOLDERS))
        for stage in ("prepare", "train", "evaluate", "export")
    }


def modules(project: Project, script: str, *arguments: str) -> set[str]:
    """Run a script and return the names of all modules that it imported."""
    project.environment["PYTHONPATH"] = str(project.folder / "src")
    out = project.folder.parent / "modules.json"
    out.unlink(missing_ok=True)
    command = project.command("python", "-c", LOOK, str(out), script, *arguments)
    done = subprocess.run(command, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(out.read_text()))


def among(found: set[str], *packages: str) -> list[str]:
    return [name for name in packages if name in found]


@pytest.mark.parametrize("command", ["--help", "check"])
def test_a_command_imports_nothing_that_computes(small: Project, command: str) -> None:
    found = modules(small, "src/trainyard/cli.py", command)
    assert "typer" in found
    heavy = (*FITTING, *TABLES_AND_PLOTS, *ONNX, *NOBODY, "torch", "sklearn", "scipy", "dvc", "requests")
    assert among(found, *heavy, *(("numpy", "pydantic") if command == "--help" else ())) == []


def test_prepare_needs_numpy_alone_for_digits(stages: dict[str, set[str]]) -> None:
    assert "numpy" in stages["prepare"]
    assert among(stages["prepare"], *FITTING, *TABLES_AND_PLOTS, *ONNX, *NOBODY, "torch", "sklearn", "scipy") == []


def test_training_needs_torch_and_lightning(stages: dict[str, set[str]]) -> None:
    assert among(stages["train"], "torch", *FITTING) == ["torch", *FITTING]
    assert among(stages["train"], *TABLES_AND_PLOTS, *ONNX, *NOBODY, "sklearn", "scipy") == []


def test_evaluation_needs_the_network_a_baseline_tables_and_figures(stages: dict[str, set[str]]) -> None:
    needed = ("torch", "sklearn", "matplotlib", "pyarrow")
    assert among(stages["evaluate"], *needed) == list(needed)
    # sympy comes with torch's compiler.
    assert among(stages["evaluate"], *FITTING, *ONNX, *NOBODY, "pandas", "omegaconf", "sympy") == []


def test_export_needs_the_network_and_onnx(stages: dict[str, set[str]]) -> None:
    assert among(stages["export"], "torch", *ONNX) == ["torch", *ONNX]
    assert among(stages["export"], *FITTING, *TABLES_AND_PLOTS, *NOBODY, "sklearn", "scipy") == []


@pytest.mark.cluster
def test_the_driver_of_workers_leaves_lightning_to_them(small: Project, stages: dict[str, set[str]]) -> None:
    for folder in ("models", "reports", ".trainyard/train"):
        shutil.rmtree(small.folder / folder)
    small.change("workers: 0", "workers: 2")
    found = modules(small, "pipeline/train.py", "cnn", *FOLDERS)
    assert among(found, "ray", "torch") == ["ray", "torch"]
    assert among(found, *FITTING, *ONNX, "mlflow", "sqlalchemy", "sklearn", "scipy", "matplotlib", "omegaconf", "sympy") == []
