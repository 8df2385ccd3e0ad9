"""A small folder of images, two classes of four, and what is said against it once something is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainyard.data.image_folder import ImageFolderConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset


def paint(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def make_pets(place: Path) -> Path:
    """Write the folder, and return it."""
    for number in range(4):
        paint(place / "pets" / "cat" / f"{number}.png", number)
        paint(place / "pets" / "dog" / f"{number}.png", 100 + number)
    return place / "pets"


def config(folder: Path, **changes: Any) -> ImageFolderConfig:
    return ImageFolderConfig(**{"source": "image_folder", "path": folder.name, "size": 8, "channels": 3, **changes})


def read(folder: Path, progress: Callable[[str], None] | None = None, **changes: Any) -> RawDataset:
    return load(config(folder, **changes), folder.parent, folder.parent / "scratch", progress=progress, workers=1)


def refused(folder: Path, code: int = 2, **changes: Any) -> set[tuple[str, str]]:
    """Return rule and place of all that stands against a folder."""
    with pytest.raises(DataError) as caught:
        read(folder, **changes)
    assert caught.value.exit_code == code
    assert all(problem.where in str(caught.value) or not problem.where.isprintable() for problem in caught.value.problems)
    return {(problem.rule, problem.where) for problem in caught.value.problems}
