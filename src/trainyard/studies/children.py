"""One training and evaluation of a recipe that differs from the one in params.yaml, beside the project's own.

It runs the project's own stages in a folder that shows the project but for params.yaml and what stages write there, so that it
is trained, resumed and recorded as `dvc repro` would: what is finished is not done again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from trainyard.errors import Interrupted, TrainyardError
from trainyard.files import write_whole
from trainyard.parent import PARENT, this_process
from trainyard.tracking.run import PARENT_VARIABLE

OWN = frozenset({"params.yaml", "reports", "models", "dvc.lock", "dvc.yaml", ".dvc", ".git", ".trainyard"})
"""Entries of a project that are not shown in a child's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A variation of a recipe."""

    recipe: str
    changes: Mapping[str, Any]
    """Values by their dotted keys in the recipe's block."""
    data_dir: Path
    """What it is trained and tested on."""
    folder: Path
    """Where it runs, and where what comes out stays."""

    @property
    def metrics_path(self) -> Path:
        """What stage `evaluate` writes last but for figures."""
        return self.folder / "reports" / self.recipe / "evaluate.json"

    @property
    def results_path(self) -> Path:
        """Its results by test sample."""
        return self.folder / "reports" / self.recipe / "predictions.parquet"


def run_child(root: Path, child: Child, parent: str) -> dict[str, float]:
    """Train and evaluate a variation, unless that is done, and return its metrics.

    Args:
        root: the project.
        child: the variation.
        parent: the key of the run that it belongs to.

    Raises:
        TrainyardError: with the exit code of the stage that failed, which has said why.
    """
    show(root, child)
    done = child.folder / "done.json"
    mark = _mark(child)
    if done.is_file() and done.read_text(encoding="utf-8") == mark:
        return _metrics(child)
    done.unlink(missing_ok=True)
    places = [str(child.data_dir), f"models/{child.recipe}", f"reports/{child.recipe}"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "DVC_ROOT": str(root), PARENT_VARIABLE: parent}
    environment[PARENT] = this_process()
    # Of the stage of another pipeline, should this run in one.
    environment.pop("DVC_STAGE", None)
    for stage in ("train", "evaluate"):
        command = [sys.executable, f"pipeline/{stage}.py", child.recipe, *places]
        code = subprocess.run(command, cwd=child.folder, env=environment, check=False).returncode
        if code:
            raise _failure(stage, child, code)
    write_whole(done, mark.encode())
    return _metrics(child)


def show(root: Path, child: Child, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Make the folder of a child: links to all of the project, and its own params.yaml.

    Args:
        root: the project.
        child: what is to differ.
        settings: other values beside the recipes, by block and key.

    Raises:
        OSError: the disk is full.
    """
    child.folder.mkdir(parents=True, exist_ok=True)
    for entry in root.iterdir():
        link = child.folder / entry.name
        if entry.name not in OWN and not link.is_symlink() and not link.exists():
            link.symlink_to(entry)
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(root / "params.yaml")
    block = values["recipes"][child.recipe]
    for key, value in child.changes.items():
        *folders, last = key.split(".")
        place = block
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    blocks = {name: {**values.get(name, {}), **found} for name, found in (settings or {}).items()}
    kept = {**values, **blocks, "recipes": {child.recipe: block}}
    kept.pop("sweep", None)
    # JSON is YAML: what is read again is what was read, numbers and words alike.
    write_whole(child.folder / "params.yaml", f"{json.dumps(kept, indent=2, ensure_ascii=False)}\n".encode())


def _metrics(child: Child) -> dict[str, float]:
    values: dict[str, float] = json.loads(child.metrics_path.read_text(encoding="utf-8"))
    return values


def _mark(child: Child) -> str:
    """Return what a child is made from; another one is another child, though it runs in the same folder."""
    from trainyard.data.packed import read_card
    from trainyard.fingerprint import code_sha256, fingerprint, stage_code
    from trainyard.recipe import read_recipe

    recipe = read_recipe(child.folder / "params.yaml", child.recipe)
    values = {
        "fingerprint": fingerprint(recipe, read_card(child.data_dir).sha256),
        "evaluate": recipe.to_json()["evaluate"],
        "code": code_sha256(stage_code("evaluate", recipe)),
    }
    return json.dumps(values, sort_keys=True)


def _failure(stage: str, child: Child, code: int) -> TrainyardError:
    """Return an error with the exit code of a stage that has told its reason."""
    if code in (130, -2, 75):
        return Interrupted(f"{child.folder}: stage {stage} was stopped; run the same command again to continue")
    error = TrainyardError(
        f"{child.folder}: stage {stage} ended with exit code {code}, for the reason above; mend that, then "
        "the same command again"
    )
    error.exit_code = code if code > 0 else 1
    return error
