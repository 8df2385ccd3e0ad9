"""The data of lessons, packed on first use and kept: real ones that come with the libraries, and a few that are made up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from trainyard.data.digits import read_digits
from trainyard.data.packed import Card, Split, open_split, read_card
from trainyard.data.prepare import prepare
from trainyard.files import write_whole
from trainyard.recipe import Recipe

MADE_UP = Path("data", "raw", "lessons")
"""Where recipes look for what is made up here, relative to the project."""
CANVAS = 24
"""Height and width in pixels of the black canvas with a digit of 8 x 8 in its middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A recipe's data."""

    folder: Path
    card: Card
    train: Split
    val: Split
    test: Split


def packed(recipe: Recipe, root: Path) -> Packed:
    """Return a recipe's data, packed before or now; what is made up is made first."""
    path = root / recipe.data.path
    if path.parent == root / MADE_UP and not path.exists():
        MAKERS[path.name.partition("-")[0]](path)
    digest = hashlib.sha256(json.dumps(asdict(recipe.data), sort_keys=True).encode()).hexdigest()[:16]
    folder = root / ".trainyard" / "lessons" / "data" / f"{recipe.data.source}-{digest}"
    card = read_card(folder) if (folder / "card.json").is_file() else None
    if card is None or any(version(name) != found for name, found in card.libraries.items()):
        card = prepare(recipe.name, recipe.data, folder, root=root)
    train, val, test = (open_split(folder, split, card) for split in ("train", "val", "test"))
    return Packed(folder=folder, card=card, train=train, val=val, test=test)


def make_rings(folder: Path) -> None:
    """Write points of a plane as images of two pixels: class 0 in a disc, class 1 in a ring around it."""
    rng = np.random.default_rng(0)
    labels = np.arange(1200) % 2
    radii = np.where(labels == 0, rng.uniform(0, 45, 1200), rng.uniform(65, 110, 1200))
    angles = rng.uniform(0, 2 * np.pi, 1200)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    _write(folder, np.rint(128 + points).astype(np.uint8).reshape(-1, 1, 1, 2), labels)


def make_canvas(folder: Path) -> None:
    """Write the handwritten digits in the middle of a larger black canvas, so that there is room to move them."""
    ink, labels = read_digits()
    images = np.zeros((len(ink), 1, CANVAS, CANVAS), dtype=np.uint8)
    begin = (CANVAS - ink.shape[1]) // 2
    middle = slice(begin, begin + ink.shape[1])
    images[:, 0, middle, middle] = np.rint(ink * (255 / 16))
    _write(folder, images, labels)


def make_copying(path: Path) -> None:
    """Write sequences of words: which of eight came first is to be said after so many steps as the file's name says."""
    length = int(path.stem.rpartition("-")[2])
    rng = np.random.default_rng(length)
    lines = ["text,label"]
    for row in range(1500):
        first, fillers = f"k{row % 8}", rng.choice(["a", "b", "c", "d"], length - 1)
        lines.append(f"{' '.join([first, *fillers])},{first}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, ("\n".join(lines) + "\n").encode())


MAKERS: dict[str, Callable[[Path], None]] = {"rings": make_rings, "canvas": make_canvas, "copying": make_copying}
"""What makes up the data of each name, up to the first dash."""


def _write(folder: Path, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], labels: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    np.save(folder / "images.npy", images)
