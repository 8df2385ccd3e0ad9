"""MNIST-style idx files: images and labels in four files, plain or gzipped (the format of LeCun, Cortes and Burges).

A file is a magic number (two zero bytes, the type, the number of dimensions), the dimensions as big-endian 32-bit numbers,
and the values in a row.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.links import leaves_project
from trainyard.data.problems import Problem, settle
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.splits import check_fractions
from trainyard.params import Fraction, Seed

UNSIGNED_BYTE = 0x08
MOST_BYTES = 4 * 2**30
"""Of one file, unpacked: more than any data set of this form has, and less than a bomb needs to do harm."""
PREFIXES: dict[int, tuple[str, ...]] = {TO_DIVIDE: ("train",), 2: ("t10k", "test")}
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxFilesConfig:
    """Where the four files are.

    They are named `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`
    (or `test-` for `t10k-`, and `.idx` for `-idx`), with or without `.gz`.
    """

    source: Literal["idx_files"]
    path: str
    """Folder, relative to params.yaml."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, 2, ..., or of 1, 2, 3, ... where these are all; empty: the numbers that occur."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the training files' samples."""
    test_fraction: Fraction = 0.2
    """Share of the samples, where there are no test files."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)


def load(config: IdxFilesConfig, root: Path, scratch: Path) -> RawDataset:
    """Return images (N, 1, H, W) uint8 and labels (N,), with the test split of the files, if there is one.

    Raises:
        DataError: listing files that are missing, cut, of another type, or do not belong together.
    """
    folder = root / config.path
    problems: list[Problem] = []
    parts: list[tuple[int, Bytes, Bytes]] = []
    for split, prefixes in PREFIXES.items():
        pair = [_find(folder, prefixes, suffix) for suffix in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        if split != TO_DIVIDE and pair == [None, None]:
            continue
        refused = [leaves_project(path, path.name, root, folder) for path in pair if path]
        if any(refused):
            problems += [problem for problem in refused if problem]
            continue
        read = [_read(path, dimensions, problems) for path, dimensions in zip(pair, (3, 1), strict=True) if path]
        if None in pair:
            problems.append(_problem("missing-file", prefixes[0], "not both files", "images-idx3-ubyte and labels-idx1-ubyte"))
        elif all(array is not None for array in read):
            images, labels = (array for array in read if array is not None)
            parts.append((split, images, labels))
            if len(images) != len(labels):
                found = f"{len(images):,} images and {len(labels):,} labels"
                problems.append(_problem("lengths", prefixes[0], found, "as many labels as images"))
    if len({images.shape[1:] for _, images, _ in parts}) > 1:
        problems.append(_problem("sizes", ".", "training and test images of two sizes", "one size"))
    present = np.unique(np.concatenate([np.zeros(0, dtype=np.uint8), *(labels for _, _, labels in parts)]))
    classes = config.classes or tuple(map(str, present))
    highest = int(present.max(initial=0))
    # Those of EMNIST's letters begin at 1.
    from_one = len(present) > 0 and present[0] == 1 and highest == len(classes)
    if config.classes and highest >= len(classes) + from_one:
        problems.append(
            _problem("labels-values", "labels", f"labels up to {highest}", f"0 to {len(classes) - 1}, as classes has it")
        )
    settle(config.path, problems, "stop")
    images = np.concatenate([images for _, images, _ in parts])
    numbers = np.concatenate([labels for _, _, labels in parts]).astype(np.int64)
    numbers = numbers - from_one if config.classes else np.searchsorted(present, numbers).astype(np.int64)
    return RawDataset(
        kind="image_classification",
        classes=classes,
        arrays={"images": images[:, None], "labels": numbers},
        about=f"{len(images):,} grey images of {images.shape[1]} x {images.shape[2]} pixels, from idx files",
        split=np.concatenate([np.full(len(labels), split) for split, _, labels in parts]),
    )


def _find(folder: Path, prefixes: tuple[str, ...], suffix: str) -> Path | None:
    spelt = (suffix, suffix.replace("-idx", ".idx"))
    names = [f"{prefix}-{name}{ending}" for prefix in prefixes for name in spelt for ending in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).exists()), None)


def _read(path: Path, dimensions: int, problems: list[Problem]) -> Bytes | None:
    """Return the array of a file, or None after saying what is wrong with it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE or head[3] != dimensions:
                expected = f"bytes in {dimensions} dimensions: 0000 08{dimensions:02x}"
                problems.append(_problem("idx-header", path.name, f"a file that begins with {head[:4].hex()}", expected))
                return None
            shape = tuple(int.from_bytes(head[start : start + 4], "big") for start in range(4, len(head), 4))
            size = int(np.prod(shape, dtype=np.float64))
            if size > MOST_BYTES:
                problems.append(_problem("idx-size", path.name, f"a shape of {shape}", f"at most {MOST_BYTES:,} bytes"))
                return None
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        problems.append(_problem("unreadable-file", path.name, f"no whole file ({error})", "the file as it was published"))
        return None
    if len(content) != size:
        amount = "more than" if len(content) > size else f"{len(content):,} of"
        found = f"{amount} the {size:,} values of shape {shape}"
        problems.append(_problem("idx-length", path.name, found, "the file as it was published"))
        return None
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _problem(rule: str, where: str, found: str, expected: str) -> Problem:
    return Problem(rule=rule, where=where, found=found, expected=expected)
