"""CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009): a label or two and 3 x 32 x 32 bytes for each image.

data_batch_1.bin ... data_batch_5.bin   test_batch.bin   batches.meta.txt                  CIFAR-10
train.bin   test.bin   fine_label_names.txt   coarse_label_names.txt                       CIFAR-100
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.links import leaves_project
from trainyard.data.problems import Problem, printable, settle
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.splits import check_fractions
from trainyard.params import Fraction, Seed

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MOST_NAMES = 256
ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarFilesConfig:
    """Where the files are, and which labels are learned."""

    source: Literal["cifar_files"]
    path: str
    """Folder, relative to params.yaml, or a descriptor such as data/catalogue/cifar10.yaml."""
    labels: Literal["fine", "coarse"] = "fine"
    """Of CIFAR-100: the 100 classes, or the 20 groups of them."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the training files' samples."""
    test_fraction: Fraction = 0.2
    """Share of the samples, where there is no test file."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """One of the two data sets."""

    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int
    label: int
    """Which of them is the label."""


def load(config: CifarFilesConfig, root: Path, scratch: Path) -> RawDataset:
    """Return images (N, 3, 32, 32) uint8, memory-mapped below `scratch`, and labels (N,), with the test split of the files.

    Raises:
        DataError: listing files that are missing, cut, or hold labels without a name.
    """
    folder = root / config.path
    problems: list[Problem] = []
    form = _form(folder, config, problems)
    present = [name for name in (*form.train, form.test, form.names) if (folder / name).exists()]
    problems += [refused for name in present if (refused := leaves_project(folder / name, name, root, folder))]
    settle(config.path, problems, "stop")
    classes = _names(folder / form.names, problems)
    records: list[tuple[int, NDArray[np.uint8]]] = []
    files = (*form.train, *((form.test,) if (folder / form.test).exists() else ()))
    for name in files:
        found = _records(folder / name, form, problems)
        if found is not None and _check_labels(found[:, form.label], name, classes, problems):
            records.append((2 if name == form.test else TO_DIVIDE, found))
    settle(config.path, problems, "stop")
    labels = np.concatenate([part[:, form.label] for _, part in records]).astype(np.int64)
    return RawDataset(
        kind="image_classification",
        classes=classes,
        arrays={"images": _copy_images([part for _, part in records], form.label_bytes, scratch), "labels": labels},
        about=f"{len(labels):,} colour images of 32 x 32 pixels in {len(classes)} classes, from {printable(config.path)}",
        split=np.concatenate([np.full(len(part), split) for split, part in records]),
        names=tuple(f"{name}:{row}" for name, (_, part) in zip(files, records, strict=True) for row in range(len(part))),
    )


def _form(folder: Path, config: CifarFilesConfig, problems: list[Problem]) -> _Form:
    if (folder / "train.bin").exists():
        names, label = ("fine_label_names.txt", 1) if config.labels == "fine" else ("coarse_label_names.txt", 0)
        return _Form(train=("train.bin",), test="test.bin", names=names, label_bytes=2, label=label)
    if config.labels == "coarse":
        problems.append(_problem("labels", "data.labels", "coarse, but CIFAR-10 has one label an image", "remove labels"))
    train = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    return _Form(train=train, test="test_batch.bin", names="batches.meta.txt", label_bytes=1, label=0)


def _names(path: Path, problems: list[Problem]) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8") as file:
            names = tuple(name for name in file.read(2**20).split() if name)
    except (OSError, UnicodeDecodeError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        problems.append(_problem("missing-file", path.name, found, "the names of the classes, as they were published"))
        return ()
    if not 2 <= len(names) <= MOST_NAMES or len(set(names)) < len(names):
        expected = f"between 2 and {MOST_NAMES}, each once"
        problems.append(_problem("class-names", path.name, f"{len(names)} names", expected))
        return ()
    return names


def _records(path: Path, form: _Form, problems: list[Problem]) -> NDArray[np.uint8] | None:
    """Memory-map a file as its records (N, label bytes + 3072)."""
    size = form.label_bytes + PIXELS
    try:
        found = path.stat().st_size
    except OSError:
        problems.append(_problem("missing-file", path.name, "no such file", f"records of {size:,} bytes"))
        return None
    if found == 0 or found % size:
        expected = f"a whole number of records of {size:,} bytes: the file as it was published"
        problems.append(_problem("file-size", path.name, f"{found:,} bytes", expected))
        return None
    mapped: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, size)
    return mapped


def _check_labels(labels: NDArray[np.uint8], name: str, classes: tuple[str, ...], problems: list[Problem]) -> bool:
    bad = np.flatnonzero(labels >= len(classes)) if classes else np.empty(0, dtype=np.int64)
    if len(bad):
        found = f"{len(bad):,} labels up to {labels.max()}, the first in record {bad[0]}"
        problems.append(_problem("labels-values", name, found, f"0 to {len(classes) - 1}, one for each name"))
    return not len(bad)


def _copy_images(parts: list[NDArray[np.uint8]], label_bytes: int, scratch: Path) -> NDArray[Any]:
    """Return the images of all files behind one another, written a few megabytes at a time and memory-mapped.

    Through the file's own calls, and not through a map, which would kill the process where the disk is full.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "cifar-images.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (sum(map(len, parts)), *SHAPE)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            for start in range(0, len(part), ROWS_AT_ONCE):
                file.write(np.ascontiguousarray(part[start : start + ROWS_AT_ONCE, label_bytes:]).data)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _problem(rule: str, where: str, found: str, expected: str) -> Problem:
    return Problem(rule=rule, where=where, found=found, expected=expected)
