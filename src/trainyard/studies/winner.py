"""What becomes of a sweep's best trial: a change of params.yaml to look at, that change itself, an experiment of DVC."""

from __future__ import annotations

import difflib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.files import write_whole
from trainyard.inputs import value_at
from trainyard.recipe import Recipe, read_recipe
from trainyard.recipe_text import read_as_it_is, rewritten, yaml_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A params.yaml before and after."""

    path: Path
    recipe: str
    values: dict[str, Any]
    """By dotted key in the recipe; those alone that differ from what it has."""
    before: str
    after: str

    def diff(self) -> list[str]:
        """Return it as `git diff` would show it."""
        names = f"a/{self.path.name}", f"b/{self.path.name}"
        return list(difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), *names, lineterm=""))

    def apply(self) -> None:
        """Write it.

        Raises:
            TrainyardError: somebody has edited the file meanwhile.
            OSError: the disk is full.
        """
        if read_as_it_is(self.path) != self.before:
            raise TrainyardError(f"{self.path}: was edited meanwhile; run the same command again")
        write_whole(self.path, self.after.encode())


def change_to(path: Path, recipe: Recipe, values: Mapping[str, Any]) -> Change:
    """Return the change that gives a recipe a trial's values.

    Raises:
        InputError: params.yaml is written in a way in which they cannot be changed alone.
    """
    now = recipe.to_json()
    differing = {key: value for key, value in values.items() if value_at(now, key) != value}
    before = read_as_it_is(path)
    after = rewritten(before, recipe.name, differing)
    trial = path.with_name(f".{path.name}.new")
    try:
        write_whole(trial, after.encode())
        read_recipe(trial, recipe.name)
    finally:
        trial.unlink(missing_ok=True)
    return Change(path=path, recipe=recipe.name, values=differing, before=before, after=after)


def experiment_command(change: Change, name: str) -> list[str]:
    """Return the command that trains and tests a recipe with a trial's values as an experiment of DVC, beside the project."""
    settings = [f"++recipes.{change.recipe}.{key}={yaml_of(value)}" for key, value in change.values.items()]
    sets = [part for setting in settings for part in ("-S", setting)]
    return ["exp", "run", "--temp", "-n", name, *sets, f"train@{change.recipe}", f"evaluate@{change.recipe}"]


def run_experiment(root: Path, change: Change, name: str) -> None:
    """Run it.

    Raises:
        TrainyardError: it failed, and has said why.
    """
    code = subprocess.run([sys.executable, "-m", "dvc", *experiment_command(change, name)], cwd=root, check=False).returncode
    if code:
        raise TrainyardError(
            f"dvc exp run ended with exit code {code}, for the reason above; mend that, then the same command again"
        )
