"""Images, and labels or masks, that a user has as NumPy arrays: `images.npy` and `labels.npy` or `masks.npy`.

Beside them, `groups.npy` may hold a number or a word for each image: images of one group are never in two splits.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from trainyard.data.groups import check_groups, number_groups
from trainyard.data.links import leaves_project
from trainyard.data.problems import FAILING, Problem, settle
from trainyard.data.raw import MASK_CLASSES, TO_DIVIDE, Kind, RawDataset
from trainyard.data.shards import Shards
from trainyard.data.splits import check_fractions
from trainyard.data.table_form import Findings
from trainyard.params import Fraction, Seed

Arrays = dict[str, NDArray[Any]]
SPLIT_NAMES = ("train", "val", "test")
ROWS_BYTES = 2**24
"""Of an array that are looked at at once: it may be larger than the memory."""
LISTED = 5
"""Samples of a kind that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumpyArraysConfig:
    """Where the arrays are, and what their numbers mean.

    The folder holds the .npy files themselves, or folders train, val, test with them, of which val and test may be missing.
    """

    source: Literal["numpy_arrays"]
    path: str
    """Folder, relative to params.yaml."""
    classes: tuple[str, ...]
    """Names of the labels 0, 1, 2, ..."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the samples; where there is no folder for it."""
    test_fraction: Fraction = 0.2
    """Share of the samples; where there is no folder for it."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        if len(self.classes) < 2:
            raise ValueError(f"classes: found {list(self.classes)}; name at least two, to tell them apart")
        if twice := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise ValueError(f"classes: '{twice[0]}' is named twice; give each class a name of its own")


def load(config: NumpyArraysConfig, root: Path, scratch: Path) -> RawDataset:
    """Return images (N, C, H, W) uint8 with labels (N,) or masks (N, H, W), memory-mapped where they lie in one file.

    Images are (N, H, W), (N, C, H, W) or (N, H, W, C), with 1 or 3 channels, uint8; nothing is scaled or cast.

    Raises:
        DataError: listing files that are missing, of another type or shape, or that hold pickles; labels out of range.
    """
    folder = root / config.path
    problems: list[Problem] = []
    parts = [(number, folder / name) for number, name in enumerate(SPLIT_NAMES) if (folder / name).is_dir()]
    found: list[tuple[int, Arrays]] = []
    for number, part in parts or [(TO_DIVIDE, folder)]:
        divided = TO_DIVIDE if number == 0 and len(parts) < len(SPLIT_NAMES) else number
        found.append((divided, _read_part(part, folder, root, len(config.classes), problems)))
    folders = [part for _, part in parts] or [folder]
    targets = {name for part in folders for name in ("labels", "masks") if (part / f"{name}.npy").exists()}
    groups = _groups(
        [(number, arrays) for (number, _), (_, arrays) in zip(parts or [(0, folder)], found, strict=True)], config, problems
    )
    if len(targets) > 1:
        problems.append(_problem("two-targets", ".", "labels.npy and masks.npy", "one of the two: delete or move the other"))
    _check_alike([arrays["images"] for _, arrays in found if "images" in arrays], problems)
    warnings, _ = settle(config.path, problems, "stop")
    target = targets.pop()
    kind: Kind = "image_classification" if target == "labels" else "segmentation"
    images, targets_found = (_joined([arrays[name] for _, arrays in found]) for name in ("images", target))
    count = len(images)
    answers = np.asarray(targets_found, dtype=np.int64) if target == "labels" else _in_bytes(targets_found, scratch)
    return RawDataset(
        kind=kind,
        classes=config.classes,
        arrays={"images": images, target: answers},
        about=f"{count:,} images with {target} of {config.path}",
        groups=groups,
        strata=_dominant(answers) if target == "masks" else None,
        split=np.concatenate([np.full(len(arrays["images"]), number) for number, arrays in found]),
        warnings=warnings,
    )


def _read_part(folder: Path, base: Path, root: Path, classes: int, problems: list[Problem]) -> Arrays:
    """Return the arrays of one folder; what is wrong with them is added to `problems`."""
    arrays: Arrays = {}
    present = [name for name in ("images", "labels", "masks", "groups") if (folder / f"{name}.npy").exists()]
    where = str(folder.relative_to(base))
    if "images" not in present or not {"labels", "masks"} & set(present):
        expected = "images.npy beside labels.npy or masks.npy"
        archives = ", ".join(path.name for path in sorted(folder.glob("*.npz")))
        hint = f"; save each array of {archives} as a .npy file of its own" if archives else ""
        problems.append(_problem("missing-array", where, f"{', '.join(present) or 'none of them'}", expected + hint))
        return arrays
    for name in present:
        path = folder / f"{name}.npy"
        array = _open(path, base, root, problems)
        if array is not None:
            arrays[name] = array
    if len(arrays) == len(present):
        before = len(problems)
        _check(arrays, where, classes, problems)
        if len(problems) == before:
            arrays["images"] = _channels_first(arrays["images"])
            return arrays
    return {}


def _open(path: Path, base: Path, root: Path, problems: list[Problem]) -> NDArray[Any] | None:
    """Memory-map an array, or add why that cannot be done; what is no file of the project is not opened."""
    where = str(path.relative_to(base))
    if refused := leaves_project(path, where, root, base):
        problems.append(refused)
        return None
    try:
        array: NDArray[Any] | NpzFile = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (*FAILING, errno.EACCES, errno.ENODEV):
            # Of the system: nothing is wrong with what was saved.
            raise
        pickled = "pickle" in str(error).lower() or "object" in str(error).lower()
        problems.append(
            Problem(
                rule="pickled-array" if pickled else "unreadable-array",
                where=where,
                found="an array of Python objects, which could run code" if pickled else f"no whole .npy file ({error})",
                expected="numbers: save it again with numpy.save(..., allow_pickle=False)",
                severity="refused" if pickled else "error",
            )
        )
        return None
    if isinstance(array, NpzFile):
        array.close()
        found, expected = "an archive, which was not unpacked", "one array: save it with numpy.save"
        problems.append(Problem(rule="archived-array", where=where, found=found, expected=expected, severity="refused"))
        return None
    return array


def _check(arrays: Arrays, where: str, classes: int, problems: list[Problem]) -> None:
    images = arrays["images"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        found = f"images of {images.dtype} with shape {images.shape}{_not_finite(images)}"
        floats = "; of floats from 0 to 1, save (images * 255).round().astype('uint8')" if images.dtype.kind == "f" else ""
        expected = f"uint8 with shape (N, H, W), (N, C, H, W) or (N, H, W, C){floats}"
        problems.append(_problem("images-type", where, found, expected))
        return
    if not images.size:
        problems.append(_problem("no-images", where, f"images with shape {images.shape}", "one image or more, of some pixels"))
        return
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] not in (1, 3):
        problems.append(_problem("images-channels", where, f"shape {images.shape}", "1 or 3 channels, second or last"))
        return
    groups = arrays.get("groups")
    if groups is not None and (groups.shape != (len(images),) or groups.dtype.kind not in "iuUS"):
        found = f"groups of {groups.dtype} with shape {groups.shape}"
        problems.append(_problem("groups-type", where, found, f"whole numbers or texts with shape {(len(images),)}"))
    for name in ("labels", "masks"):
        if name not in arrays:
            continue
        target, pixels = arrays[name], _channels_first(images) if images.ndim == 4 else images
        wanted = (len(images),) if name == "labels" else (len(images), *pixels.shape[-2:])
        if target.shape != wanted or target.dtype.kind not in "iu":
            found = f"{name} of {target.dtype} with shape {target.shape}"
            expected = f"whole numbers with shape {wanted}{_remedy(target, wanted, name)}"
            problems.append(_problem(f"{name}-type", where, found, expected))
            continue
        if name == "masks" and classes > MASK_CLASSES:
            found = f"masks of {classes} classes"
            problems.append(_problem("masks-classes", where, found, f"{MASK_CLASSES} at most: masks are kept in 8 bits"))
        outside = [
            ((some < 0) | (some >= classes)).reshape(len(some), -1).any(axis=1)
            for some in map(target.__getitem__, _few(target))
        ]
        bad = np.flatnonzero(np.concatenate(outside))
        if len(bad):
            values = sorted({int(value) for sample in bad[:LISTED] for value in np.unique(target[sample])})
            found = f"{len(bad):,} samples ({', '.join(map(str, bad[:LISTED]))}, ...) with the values {values}"
            problems.append(
                _problem(f"{name}-values", f"{where}/{name}.npy", found, f"0 to {classes - 1}, one for each of classes")
            )


def _remedy(target: NDArray[Any], wanted: tuple[int, ...], name: str) -> str:
    """Return how numbers of another form become the ones that are wanted, or nothing where that cannot be told."""
    flat = tuple(side for side in target.shape[1:] if side > 1) == tuple(side for side in wanted[1:] if side > 1)
    if target.ndim == 2 and name == "labels" and target.shape[1] > 1:
        return "; of rows with a 1 at the class, save labels.argmax(axis=1)"
    if target.ndim and len(target) == wanted[0] and flat and target.dtype.kind in "biuf":
        return (
            f"; save {name}.reshape{wanted}.astype('uint8')" if name == "masks" else "; save labels.reshape(-1).astype('int64')"
        )
    return ""


def _check_alike(images: list[NDArray[Any]], problems: list[Problem]) -> None:
    """Add that images of the splits, each (N, C, H, W), are not of one shape."""
    shapes = list(dict.fromkeys(array.shape[1:] for array in images))
    if len(shapes) > 1:
        listed = " and ".join(map(str, shapes))
        problems.append(_problem("mixed-shapes", ".", f"images with (C, H, W) of {listed}", "one shape in all splits"))


def _groups(parts: list[tuple[int, Arrays]], config: NumpyArraysConfig, problems: list[Problem]) -> NDArray[np.int64] | None:
    """Return the number of each image's group, or None where there are no groups.

    Args:
        parts: of each split of the source, 0 train, 1 val, 2 test, its arrays.
        config: for messages.
        problems: groups in two splits are added to it.
    """
    given = [(number, arrays) for number, arrays in parts if "groups" in arrays]
    if not given:
        return None
    found, expected = Findings(config.path, problems), "groups.npy beside every images.npy, or beside none"
    for number, arrays in parts:
        if arrays and "groups" not in arrays:
            found.add("missing-array", "no groups.npy", expected, at=SPLIT_NAMES[number])
    names, splits = [], []
    for number, arrays in given:
        try:
            values = arrays["groups"].tolist()
        except ValueError as error:
            found.add("groups-type", f"no texts ({error})", "whole numbers or texts", at="groups.npy")
            continue
        names += [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value) for value in values]
        splits += [number] * len(values)
    if empty := [number for number, name in enumerate(names) if not name.strip()]:
        said = f"{len(empty):,} empty names ({', '.join(map(str, empty[:LISTED]))}, ...)"
        found.add("no-group", said, "name the group of every image", at="groups.npy")
    check_groups(names, splits, "groups.npy", found)
    return number_groups(names)


def _not_finite(images: NDArray[Any]) -> str:
    if images.dtype.kind != "f" or not images.ndim:
        return ""
    bad = sum(int(np.count_nonzero(~np.isfinite(image))) for image in images)
    return f", {bad:,} pixels of them NaN or infinite" if bad else ""


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[1] in (1, 3) else images.transpose(0, 3, 1, 2)


def _joined(parts: list[NDArray[Any]]) -> Any:
    """Return arrays behind one another, as they lie on the disk."""
    return parts[0] if len(parts) == 1 else Shards(parts)


def _in_bytes(masks: Any, scratch: Path) -> Any:
    """Return masks as uint8: as they are, or written a few at a time below `scratch` and memory-mapped."""
    if masks.dtype == np.uint8:
        return masks
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "masks-in-bytes.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": masks.shape})
        for rows in _few(masks):
            file.write(np.ascontiguousarray(masks[rows].astype(np.uint8)).data)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _few(arrays: Any) -> Iterator[slice]:
    """Yield slices of rows that are about 16 MiB each."""
    step = max(1, ROWS_BYTES // max(1, arrays.dtype.itemsize * math.prod(arrays.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(arrays), step))


def _dominant(masks: Any) -> NDArray[np.int64]:
    """Return the most frequent class but 0 of each mask (N, H, W), or 0 where there is no other."""
    return np.array([int(np.argmax(np.bincount(mask.ravel())[1:], axis=0)) + 1 if mask.any() else 0 for mask in masks])


def _problem(rule: str, where: str, found: str, expected: str) -> Problem:
    return Problem(rule=rule, where=where, found=found, expected=expected)
