"""What is wrong with the numbers of a series, beyond what one cell shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import Problem, printable
from trainyard.data.series_windows import borders

if TYPE_CHECKING:
    from trainyard.data.series_csv import SeriesCSVConfig

Floats = NDArray[np.float64]
CONSTANT = 1e-9
"""A column whose spread is below this share of its size is constant."""
LARGEST = 1e37
"""Of a number: what is larger, or its distance from the mean, is none in the single precision that networks compute in."""
STAND_INS = (-99.0, -999.0, -9999.0, -99999.0, -999999.0, 9999.0, 99999.0, 999999.0)
"""Numbers that often stand for none."""
OTHER_NUMBERS = 10
"""Different ones that a column holds at least, where one far from them is said to be."""
COARSE, LOST = 0.01, 0.5
"""Step from one single-precision number to the next, as a share of a column's spread: told of, and refused."""
MOSTLY_MISSING = 0.5
"""Share of a column's numbers."""
FILLED_IN = 0.01
"""Share of the test split's numbers from which on it is said that a part of the score is of them."""
MUCH_SMALLER = 0.01
"""Share of the largest spread of a series, below which errors in another one count for next to nothing."""
LOOKED_AT = 1000
"""Cells, to see whether a column holds many numbers."""
LISTED = 5
NAME_IT = "name the series of each row, or delete the row"


def check_numbers(
    config: SeriesCSVConfig, parts: list[Floats], names: list[str], columns: tuple[str, ...], targets: int
) -> list[Problem]:
    """Return what is wrong with the numbers of all series.

    Args:
        config: of the source.
        parts: (T, F) of each series.
        names: of the series.
        columns: (F,) names, targets first.
        targets: how many of the columns are targets.
    """
    return [
        *_lengths(config, parts, names),
        *_large(config, parts, columns),
        *_constant(config, parts, columns),
        *_imprecise(config, parts, names, columns),
        *_missing(config, parts, columns, targets),
        *_much_smaller(config, parts, names, columns[:targets]),
    ]


def check_names(config: SeriesCSVConfig, ids: Sequence[str], lines: NDArray[np.int64]) -> list[Problem]:
    """Return the rows that name no series, and the names that are one but for their case and outer spaces."""
    path = config.path
    problems = [
        Problem(rule="no-series", where=f"{path}:{line}", found=f"nothing in column {config.series}", expected=NAME_IT)
        for line, name in zip(lines, ids, strict=True)
        if not name.strip()
    ]
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(ids):
        alike[name.strip().casefold()].append(name)
    for same in alike.values():
        if len(same) > 1 and same[0].strip():
            found = f"{' and '.join(map(repr, same))} differ in case or outer spaces only"
            expected = "they are series of their own; if they are one, write it one way"
            where = f"{path}:{config.series}"
            problems.append(Problem(rule="like-series", where=where, found=found, expected=expected, severity="warning"))
    return problems


def check_stand_ins(path: str, values: Floats, lines: NDArray[np.int64], columns: tuple[str, ...]) -> list[Problem]:
    """Return the columns (rows, F) in which a number far from all others comes again and again, as -999 does for none."""
    problems = []
    for name, column in zip(columns, values.T, strict=True):
        known = column[~np.isnan(column)]
        for number in sorted({float(known.min()), float(known.max())}) if len(known) else ():
            others = known[known != number]
            count = len(known) - len(others)
            if not number or len(np.unique(others[:: 1 + len(others) // LOOKED_AT])) < OTHER_NUMBERS:
                continue
            low, high = float(others.min()), float(others.max())
            # Of most numbers it is only odd where they are far away, of some also where they are not so far.
            share = 0.25 if number in STAND_INS else 1.0 if count > 1 else np.inf
            if min(abs(number - low), abs(number - high)) > share * (high - low):
                found = f"{count:,} cell{'s hold' if count > 1 else ' holds'} {number:g}, and all others {low:g} to {high:g}"
                expected = (
                    "where it stands for no number, leave the cells empty: it is learned as a number, and scales the others"
                )
                where = f"{path}:{lines[int(np.argmax(column == number))]}:{name}"
                problems.append(Problem(rule="stand-in", where=where, found=found, expected=expected, severity="warning"))
    return problems


def _lengths(config: SeriesCSVConfig, parts: list[Floats], names: list[str]) -> list[Problem]:
    """Return the series that are too short for a window in every split, or longer than what is used."""
    problems = []
    for name, values in zip(names, parts, strict=True):
        ends = borders(len(values), config)
        where = f"series {name}" if name else config.path
        needs = {"train": config.context_length + config.horizon, "val": config.horizon, "test": config.horizon}
        for (split, need), start, end in zip(needs.items(), ends[:-1], ends[1:], strict=True):
            if end - start < need:
                found = f"{len(values)} steps, of which {max(0, end - start)} go to {split}"
                expected = f"{split} needs {need} (context_length {config.context_length}, horizon {config.horizon})"
                problems.append(Problem(rule="short-series", where=where, found=found, expected=expected))
        if config.train_steps and (asked := config.train_steps + (config.val_steps or 0) + (config.test_steps or 0)) > len(
            values
        ):
            found, expected = (
                f"{len(values):,} steps of {asked:,}",
                f"test has {ends[3] - ends[2]:,} of them: lower train_steps or others",
            )
            problems.append(Problem(rule="fewer-steps", where=where, found=found, expected=expected, severity="warning"))
        if len(values) > ends[-1]:
            found, expected = f"{len(values) - ends[-1]:,} steps after the test split", "they are left out, as asked"
            problems.append(Problem(rule="steps-left-out", where=where, found=found, expected=expected, severity="warning"))
    return problems


def _large(config: SeriesCSVConfig, parts: list[Floats], columns: tuple[str, ...]) -> list[Problem]:
    """Return the columns with numbers that single precision does not hold."""
    sizes = np.max([np.nan_to_num(np.abs(values)).max(axis=0) for values in parts], axis=0)
    return [
        Problem(
            rule="large-number",
            where=f"{config.path}:{name}",
            found=f"numbers up to {size:g}",
            expected=f"{LARGEST:g} at most: use another unit, or an empty cell where it stands for none",
        )
        for name, size in zip(columns, sizes, strict=True)
        if size > LARGEST
    ]


def _constant(config: SeriesCSVConfig, parts: list[Floats], columns: tuple[str, ...]) -> list[Problem]:
    """Return the columns that do not change in the training split, or hold nothing there."""
    training = np.concatenate([values[: borders(len(values), config)[1]] for values in parts])
    problems = []
    for name, values in zip(columns, training.T, strict=True):
        where, known = f"{config.path}:{name}", values[~np.isnan(values)]
        if not len(known):
            found, expected = "no number in the training split", "leave the column out, or raise the share of training"
            problems.append(Problem(rule="no-numbers", where=where, found=found, expected=expected))
        elif np.ptp(known) <= CONSTANT * float(np.abs(known).max()):
            found, expected = f"always {known[0]:g} in the training split", "it teaches nothing there; leave it out"
            problems.append(Problem(rule="constant-column", where=where, found=found, expected=expected, severity="warning"))
    return problems


def _missing(config: SeriesCSVConfig, parts: list[Floats], columns: tuple[str, ...], targets: int) -> list[Problem]:
    """Return the columns that are mostly missing, and how much of what is scored is filled in."""
    problems = []
    empty = np.concatenate([np.isnan(values) for values in parts])
    for name, share in zip(columns, empty.mean(axis=0), strict=True):
        if MOSTLY_MISSING < share < 1:
            found = f"{share:.0%} of its numbers are missing"
            expected = "windows whose last seen step lacks one are left out, so most are: fill the column in, or leave it out"
            where = f"{config.path}:{name}"
            problems.append(Problem(rule="mostly-missing", where=where, found=found, expected=expected, severity="warning"))
    tested = np.concatenate([np.isnan(values[slice(*borders(len(values), config)[2:])]) for values in parts])[:, :targets]
    if tested.size and (share := float(tested.mean())) >= FILLED_IN:
        found = f"{share:.1%} of the numbers to be forecast in the test split are missing"
        expected = "straight lines fill them in, and are scored like numbers that were measured"
        problems.append(Problem(rule="filled-in", where=config.path, found=found, expected=expected, severity="warning"))
    return problems


def _imprecise(config: SeriesCSVConfig, parts: list[Floats], names: list[str], columns: tuple[str, ...]) -> list[Problem]:
    """Return the columns whose changes are lost in the 7 digits of the single precision in which a model is asked."""
    training = [values[: borders(len(values), config)[1]] for values in parts]
    problems = []
    for number, name in enumerate(columns):
        spreads = np.array([_spread(values[:, number]) for values in training])
        sizes = np.array([np.nan_to_num(np.abs(values[:, number])).max(initial=0.0) for values in training])
        with np.errstate(over="ignore"):
            steps = np.spacing(np.minimum(sizes, LARGEST).astype(np.float32)).astype(np.float64)
        lost = np.flatnonzero(steps > COARSE * spreads)
        if not len(lost):
            continue
        worst = int(lost[np.argmax(steps[lost] / spreads[lost])])
        of_series = f" in series {printable(names[worst])}" if len(parts) > 1 else ""
        found = (
            f"numbers about {sizes[worst]:.7g} that change by {spreads[worst]:.3g}{of_series} (standard deviation of the "
            f"training steps), where an exported model, in single precision, sees steps of {steps[worst]:g}"
        )
        # Where no series is seen as it is, a model that was scored well would forecast nothing.
        all_lost = (steps > LOST * np.nan_to_num(spreads, nan=np.inf))[~np.isnan(spreads)].all()
        problems.append(
            Problem(
                rule="lost-digits",
                where=f"{config.path}:{name}",
                found=found,
                expected="write differences from a fixed number, or from the row before",
                severity="error" if all_lost else "warning",
            )
        )
    return problems


def _much_smaller(config: SeriesCSVConfig, parts: list[Floats], names: list[str], targets: tuple[str, ...]) -> list[Problem]:
    """Return the targets that change much less in some series than in another: one scale is that of all series."""
    problems: list[Problem] = []
    if len(parts) < 2:
        return problems
    training = [values[: borders(len(values), config)[1]] for values in parts]
    for number, name in enumerate(targets):
        spreads = np.array([_spread(values[:, number]) for values in training])
        if np.isnan(spreads).all():
            continue
        largest = int(np.nanargmax(spreads))
        small = np.flatnonzero(spreads < MUCH_SMALLER * spreads[largest])
        if not len(small):
            continue
        listed = ", ".join(f"{printable(names[row])} by {spreads[row]:.3g}" for row in small[:LISTED])
        found = (
            f"changes by {spreads[largest]:.3g} in series {printable(names[largest])}, and much less in {len(small):,} of "
            f"{len(names):,}: {listed}{', ...' if len(small) > LISTED else ''} (standard deviation of the training steps)"
        )
        expected = (
            "all series share one scale, so errors in small ones count for nothing: bring them to one size, or use two recipes"
        )
        where = f"{config.path}:{name}"
        problems.append(Problem(rule="unlike-series", where=where, found=found, expected=expected, severity="warning"))
    return problems


def _spread(column: Floats) -> float:
    """Return the standard deviation, NaN of a series that does not change."""
    known = column[~np.isnan(column)]
    if len(known) < 2 or float(np.ptp(known)) <= CONSTANT * float(np.abs(known).max()):
        return np.nan
    with np.errstate(over="ignore"):  # Numbers that are too large are named besides.
        return float(known.std())
