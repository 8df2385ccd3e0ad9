"""The run that the trainings of a study belong to: MLflow shows them below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trainyard.data.packed import read_card
from trainyard.errors import InputError
from trainyard.provenance import git_tags
from trainyard.recipe import Recipe, read_recipe, read_settings
from trainyard.tracking.run import Tracking


@contextmanager
def parent_run(
    root: Path, recipe: Recipe, study: str, folder: Path, tags: Mapping[str, str], *, once: bool = False
) -> Iterator[Tracking]:
    """Open the run of a study, or continue that of an interrupted one; its status follows how the block ends.

    Args:
        root: the project.
        recipe: that is studied.
        study: what it is called.
        folder: of the study, where the run's identity is kept.
        tags: of the run.
        once: one that ended goes on in the same run when there is more to do; else it is another one when it is run again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(read_settings(root / "params.yaml")[1], system_metrics=False)
    identity = folder / "run.json"
    with Tracking(root, config, recipe, study) as tracking:
        card = read_card(root / "data" / "prepared" / recipe.name)
        told = {**git_tags(root), "trainyard.study": study, **tags}
        tracking.start(identity, f"{recipe.name}-{study}", card, told)
        with tracking.running(folder / "spool.jsonl"):
            yield tracking
    if not once:
        identity.unlink(missing_ok=True)


def prepared(root: Path, name: str) -> tuple[Recipe, Path]:
    """Return a recipe and the folder of its packed data.

    Raises:
        InputError: they were not prepared yet.
    """
    recipe, folder = read_recipe(root / "params.yaml", name), root / "data" / "prepared" / name
    if not (folder / "card.json").is_file():
        raise InputError(f"{folder}: its data are not prepared yet; run: dvc repro prepare@{name}")
    return recipe, folder
