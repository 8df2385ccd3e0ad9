"""Splits: stratified, never apart within a group, free of duplicates, and a function of the seed alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainyard.data.dark_images import warn_of_dark
from trainyard.data.duplicates import drop_duplicates, warn_of_copies
from trainyard.data.group_split import divide_groups
from trainyard.data.packed import SPLITS, SplitName
from trainyard.data.problems import Problem
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.stratify import draw_samples
from trainyard.errors import InputError

Indices = NDArray[np.int64]
NAMED = 8
"""Classes that a message lists."""
RARE = 10
"""Masks below which those that show most of the same class are divided together with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Which samples go where."""

    indices: dict[SplitName, Indices]
    """By split: (samples,) in ascending order."""
    duplicates_dropped: int
    warnings: tuple[Problem, ...] = ()
    """Equal samples in two splits of the source, or with two labels; pictures in two splits that are almost equal; images
    that are all dark."""


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Refuse fractions that leave a split empty.

    Raises:
        ValueError: as a config's `__post_init__` does.
    """
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if fraction <= 0:
            raise ValueError(f"{name} {fraction} leaves no samples to score; use a number above 0, such as 0.1")
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave no samples to train on; "
            "their sum must be below 1"
        )


def ordered_split(names: Sequence[str], *, val_fraction: float, test_fraction: float) -> Indices:
    """Return the split (N,) of each sample, 0 train, 1 val, 2 test, by the order of the names, in which 2 precedes 10.

    The last ones are tested, those before them validated. Slices of a stack and frames of a film are much like their
    neighbours: drawn by chance, nearly all that is tested would have been trained on.

    Raises:
        InputError: too few samples for three splits.
    """
    test = max(1, round(test_fraction * len(names)))
    val = max(1, round(val_fraction * len(names)))
    if test + val >= len(names):
        raise InputError(f"split of {len(names)} samples in order: none is left to train on; add samples, or lower a fraction")
    split = np.zeros(len(names), dtype=np.int64)
    order = sorted(range(len(names)), key=lambda number: _natural(names[number]))
    split[order[-test - val :]] = 1
    split[order[-test:]] = 2
    return split


def official_split(numbers: Sequence[int]) -> Indices | None:
    """Return (N,) the split of each sample, -1 where it has still to be divided; None where all have."""
    present = set(numbers)
    if present == {0}:
        return None
    complete = present == {0, 1, 2}
    return np.array([TO_DIVIDE if number == 0 and not complete else number for number in numbers], dtype=np.int64)


def split_dataset(raw: RawDataset, *, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Split the samples of a source: as the source says, or else by group, or else sample by sample.

    Of equal samples one stays: that of the test split, or else of the validation split, where the source itself names
    splits. What the source leaves to be divided goes to training and to the splits that it has no samples for.

    Raises:
        InputError: a class has too few samples to be in every split.
    """
    kept, warnings = drop_duplicates(raw)
    strata = np.asarray(raw.arrays["labels"] if raw.strata is None and "labels" in raw.arrays else _strata(raw))
    given = np.full(len(raw), TO_DIVIDE) if raw.split is None else raw.split
    parts = [kept[given[kept] == number] for number in range(len(SPLITS))]
    rest = kept[given[kept] == TO_DIVIDE]
    if len(rest):
        divide = partial(
            stratified_split,
            groups=None if raw.groups is None else raw.groups[rest],
            val_fraction=0.0 if len(parts[1]) else val_fraction,
            test_fraction=0.0 if len(parts[2]) else test_fraction,
            seed=seed,
            dropped=len(raw) - len(kept),
        )
        if raw.strata is None:
            positions = divide(strata[rest], classes=raw.classes)
        else:
            positions = _divide_by_what_is_shown(strata[rest], divide)
        parts = [np.concatenate([part, rest[more]]) for part, more in zip(parts, positions, strict=True)]
    indices = {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}
    for name, part in indices.items():
        if not len(part):
            raise InputError(f"split {name}: holds no samples out of {len(kept)}; add samples or raise its fraction")
    if "labels" in raw.arrays:
        _check_known(raw, indices)
    warnings += (*warn_of_copies(raw, {str(name): part for name, part in indices.items()}), *warn_of_dark(raw))
    return Splits(indices=indices, duplicates_dropped=len(raw) - len(kept), warnings=warnings)


def _divide_by_what_is_shown(strata: NDArray[np.int64], divide: Callable[[NDArray[np.int64]], list[Indices]]) -> list[Indices]:
    """Return the positions of the splits, each with its share of what masks show most of, as far as that can be.

    A mask shows other classes, too. So one that few masks show most of is no reason to refuse them: those few are divided
    together, or all masks are.
    """
    _, stratum_of, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    for tried in (strata, np.where(sizes[stratum_of] < RARE, -1, strata)):
        with suppress(InputError):
            return divide(tried)
    return divide(np.zeros_like(strata))


def _check_known(raw: RawDataset, indices: dict[SplitName, Indices]) -> None:
    """Refuse classes that are tested without one sample to learn them from.

    Raises:
        InputError: naming them.
    """
    labels = {name: np.unique(np.asarray(raw.arrays["labels"])[rows]) for name, rows in indices.items()}
    for split in ("val", "test"):
        if len(missing := np.setdiff1d(labels[split], labels["train"])):
            named = ", ".join(_name(number, raw.classes) for number in missing[:NAMED].tolist())
            more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
            raise InputError(
                f"class {named}{more}: has samples in {split} and none in train, after equal ones were left out; add some to "
                f"train, or take the class out of {split}"
            )


def stratified_split(
    strata: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    classes: Sequence[str] = (),
    dropped: int = 0,
) -> list[Indices]:
    """Return the positions of the training, validation and test samples.

    Args:
        strata: (N,) the class of each sample; every split gets its share of each.
        groups: (N,) samples with the same number stay together; the fractions are then met as well as whole groups allow.
        val_fraction: share of the validation split; 0 for none.
        test_fraction: share of the test split; 0 for none.
        seed: of the shuffle.
        classes: names of the strata, for the error.
        dropped: samples that were left out before, as they equal others, for the error.

    Raises:
        InputError: a class has too few samples to be in every split.
    """
    wanted = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
    _check_counts(strata, classes, [name for name, fraction in wanted.items() if fraction], dropped)
    parts = (
        _cut_samples(strata, val_fraction, test_fraction, seed)
        if groups is None
        else _cut_groups(strata, groups, list(wanted.values()), seed)
    )
    for (name, fraction), part in zip(wanted.items(), parts, strict=True):
        if not fraction:
            continue
        for missing in np.setdiff1d(strata, strata[part]):
            count = int(np.count_nonzero(strata == missing))
            unit = "" if groups is None else f" in {len(np.unique(groups[strata == missing]))} groups"
            raise InputError(
                f"class {_name(missing, classes)}: has {count} samples{unit}, of which none went to {name}; "
                "add samples of it, leave the class out, or raise the fraction"
            )
    return parts


def _cut_groups(strata: NDArray[np.int64], groups: NDArray[np.int64], wanted: Sequence[float], seed: int) -> list[Indices]:
    """Return the positions of the training, validation and test samples, groups whole."""
    given = [number for number, fraction in enumerate(wanted) if fraction]
    count = len(np.unique(groups))
    if count < len(given):
        raise InputError(
            f"split of {len(strata)} samples: they stand in {count} group(s) that must not be cut; "
            f"at least {len(given)} groups are needed"
        )
    split = np.array(given)[divide_groups(strata, groups, [wanted[number] for number in given], seed)]
    return [np.flatnonzero(split == number) for number in range(len(wanted))]


def _cut_samples(strata: NDArray[np.int64], val_fraction: float, test_fraction: float, seed: int) -> list[Indices]:
    """Return the positions of the training, validation and test samples."""
    rest, test = _take_samples(strata, test_fraction, seed)
    train, val = _take_samples(strata[rest], val_fraction / (1 - test_fraction), seed)
    return [rest[train], rest[val], test]


def _take_samples(strata: NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the positions that stay, and those of a fraction of the samples."""
    if fraction == 0:
        return np.arange(len(strata)), np.empty(0, dtype=np.int64)
    try:
        return draw_samples(strata, max(1, round(fraction * len(strata))), seed)
    except ValueError as error:
        raise InputError(
            f"split of {len(strata)} samples: {error}; add samples, or raise val_fraction and test_fraction"
        ) from None


def _check_counts(strata: NDArray[np.int64], classes: Sequence[str], splits: Sequence[str], dropped: int) -> None:
    without = f", without {dropped:,} of all classes that equal others" if dropped else ""
    found, counts = np.unique(strata, return_counts=True)
    if not classes and len(found) == 1 and counts[0] < len(splits):
        raise InputError(
            f"split of {counts[0]} samples{without}: each of {', '.join(splits[:-1])} and {splits[-1]} needs one; add samples"
        )
    present = dict(zip(found.tolist(), counts.tolist(), strict=True))
    for number in range(len(classes)) if classes else found:
        count = present.get(int(number), 0)
        if count < len(splits):
            raise InputError(
                f"class {_name(number, classes)}: has {count} samples{without}; it needs at least {len(splits)}, one for each "
                f"of {', '.join(splits[:-1])} and {splits[-1]}: add samples of it or leave the class out"
            )


def _name(number: int, classes: Sequence[str]) -> str:
    return f"'{classes[int(number)]}'" if classes else str(number)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in a name by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _strata(raw: RawDataset) -> NDArray[np.int64]:
    return np.zeros(len(raw), dtype=np.int64) if raw.strata is None else raw.strata
