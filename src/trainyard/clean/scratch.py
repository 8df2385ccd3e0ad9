"""What is in .trainyard/: checkpoints of trainings that nobody will continue, studies, reproductions, and downloads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from trainyard.clean.things import Thing, age_of, recipe_held, size_of
from trainyard.file_lock import held_if_free
from trainyard.tracking.journal import Journal, journals
from trainyard.training.lease import FILE, Holder
from trainyard.training.outcome import DONE, recorded


def checkpoints(root: Path, states: dict[str, str], champions: set[str], older: float) -> Iterator[Thing]:
    """Yield the folders of trainings.

    Args:
        root: the project.
        states: fingerprint of each recipe as it is now; without those that cannot be known.
        champions: fingerprints.
        older: seconds that an interrupted training must lie there.
    """
    waiting = _waiting(root)
    for folder in sorted((root / ".trainyard" / "train").glob("*/")):
        mark = folder.name
        recipe = mark.rpartition("-")[0]
        age = age_of(folder)
        finished = (folder / DONE).exists()
        if (holder := _holder(folder)) is not None:
            stays = f"held by {holder}"
        elif folder in waiting:
            stays = "what it recorded waits to be sent: trainyard sync"
        elif mark in champions:
            stays = "of a champion"
        elif states.get(recipe) == mark and not (finished and recorded(folder, root / "dvc.lock")):
            stays = f"`dvc repro train@{recipe}` {'takes over what it made' if finished else 'continues it'}"
        elif age < older:
            stays = "written to a short while ago"
        else:
            stays = ""
        why = stays or ("finished" if finished else f"{recipe} is another one now, so nothing continues it")
        remove = None if stays else partial(_remove_training, root, folder, recipe)
        yield Thing(kind="checkpoints", name=mark, bytes=size_of(folder), age_seconds=age, why=why, remove=remove)


def leftovers(root: Path, older: float) -> Iterator[Thing]:
    """Yield what studies, reproductions and cut-off preparations have left."""
    base = root / ".trainyard"
    for kind, pattern, why in (
        ("studies", "studies/*/*/", "its result is in reports/; a study that is run again trains anew"),
        ("preparing", "prepare/*/", "of a preparation that was cut short; it begins anew"),
    ):
        for folder in sorted(base.glob(pattern)):
            recipe = folder.parent.name if kind == "studies" else folder.name
            yield _by_age(root, kind, folder, recipe, why, older)
    for folder in sorted(base.glob("reproduce/*/tree")):
        age = age_of(folder)
        stays = "written to a short while ago" if age < older else ""
        yield Thing(
            kind="reproductions",
            name=folder.parent.name,
            bytes=size_of(folder),
            age_seconds=age,
            why=stays or "its report.json stays",
            remove=None if stays else partial(_remove_locked, folder, folder.parent / "lock"),
        )


def downloads(root: Path, used: set[str], older: float) -> Iterator[Thing]:
    """Yield published data that were fetched.

    Args:
        root: the project.
        used: names of those that recipes are about.
        older: seconds that others must lie there.
    """
    from trainyard.data.fetch import downloads_folder

    if not downloads_folder().is_relative_to(root.resolve()):
        # Shared with other projects, which may need them.
        return
    for folder in sorted(downloads_folder().glob("*/")):
        age = age_of(folder)
        stays = "a recipe is about them" if folder.name in used else "fetched a short while ago" if age < older else ""
        remove = None if stays else partial(_remove, folder)
        why = stays or f"no recipe is about them; trainyard fetch {folder.name} brings them back"
        yield Thing(kind="downloads", name=folder.name, bytes=size_of(folder), age_seconds=age, why=why, remove=remove)


def _by_age(root: Path, kind: str, folder: Path, recipe: str, why: str, older: float) -> Thing:
    age = age_of(folder)
    with recipe_held(root, recipe) as free:
        stays = "a stage of the recipe is at work" if not free else "written to a short while ago" if age < older else ""
    return Thing(
        kind=kind,
        name=str(folder.relative_to(root / ".trainyard")),
        bytes=size_of(folder),
        age_seconds=age,
        why=stays or why,
        remove=None if stays else partial(_remove_training, root, folder, recipe),
    )


def _waiting(root: Path) -> set[Path]:
    """Return the folders of trainings whose journals are not sent."""
    spools = [
        Path(entry.values["spool"])
        for folder in journals(root)
        for entry in Journal(folder, None).entries()
        if entry.kind == "status" and "spool" in entry.values
    ]
    return {spool.parent for spool in spools}


def _holder(folder: Path) -> Holder | None:
    """Return the driver that holds a training's folder, also one of which it cannot be seen from here whether it runs."""
    try:
        holder = Holder(**json.loads((folder / "checkpoints" / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return None if holder.runs() is False else holder


def _remove_training(root: Path, folder: Path, recipe: str) -> bool:
    with recipe_held(root, recipe) as free:
        if not free or _holder(folder) is not None:
            return False
        return _remove(folder)


def _remove_locked(folder: Path, lock: Path) -> bool:
    with held_if_free(lock) as free:
        return free and _remove(folder)


def _remove(folder: Path) -> bool:
    shutil.rmtree(folder)
    return True
