"""What can be deleted, and what holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.file_lock import held_if_free

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Something that takes room."""

    kind: str
    name: str
    bytes: int
    age_seconds: float
    why: str
    """Why it can go; or why it stays."""
    remove: Callable[[], bool] | None = None
    """Deletes it, unless it has come into use meanwhile, and says whether it did. None: it stays."""


@contextmanager
def recipe_held(root: Path, recipe: str) -> Iterator[bool]:
    """Hold a recipe's lock within the block, and say whether it could be had: every stage of the recipe holds it."""
    path = root / ".trainyard" / "locks" / f"{recipe}.lock"
    if not path.parent.is_dir():
        yield True
        return
    with held_if_free(path) as free:
        yield free


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_symlink():
        return 0
    if path.is_dir():
        return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())
    return path.stat().st_size if path.exists() else 0


def age_of(path: Path) -> float:
    """Return how long ago the newest file of a folder was written, in seconds."""
    times = [entry.lstat().st_mtime for entry in path.rglob("*")] if path.is_dir() else []
    return max(0.0, time.time() - max([path.lstat().st_mtime, *times]))
