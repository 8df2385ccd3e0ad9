"""Series of measured numbers in a CSV file: a row a time step, a column a quantity.

Words: context_length steps are seen, horizon steps after them are forecast (GluonTS's pair, arXiv:1906.05264, but for its
prediction_length). A series is cut by time into train, val and test, never at random: `series_windows` does that.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import Problem, settle
from trainyard.data.raw import RawDataset
from trainyard.data.series_time import Clock, grid, read_times
from trainyard.data.splits import check_fractions
from trainyard.params import Count, Fraction, nearest

Floats = NDArray[np.float64]
CONSTANT = 1e-9
"""A column whose spread is below this share of its size is constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCSVConfig:
    """Which columns of a file are forecast from which, and over which steps."""

    source: Literal["series_csv"]
    path: str
    """Of the file, relative to params.yaml."""
    time: str
    """Column of the times: ascending and even, dates or epoch numbers."""
    targets: tuple[str, ...] | Literal["all"]
    """Columns that are forecast; their past is seen. all: every column that has no other use."""
    features: tuple[str, ...] = ()
    """Further columns of which the past is seen."""
    series: str | None = None
    """Column that says to which of several series a row belongs. None: the file holds one."""
    context_length: Count
    """Steps that are seen."""
    horizon: Count
    """Steps that are forecast."""
    stride: Count = 1
    """Steps from the start of one window to that of the next."""
    missing: Literal["refuse", "interpolate"] = "refuse"
    """Of empty cells, NaN, and rows left out. interpolate: a straight line, never drawn into the past from a later split."""
    val_fraction: Fraction = 0.1
    """Share of the steps of each series, before those of the test split."""
    test_fraction: Fraction = 0.2
    """Share of the steps of each series, the latest ones."""
    train_steps: Count | None = None
    """Steps of each series instead of shares, from its start on; the three go together, and later steps are left out."""
    val_steps: Count | None = None
    test_steps: Count | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        targets = () if self.targets == "all" else self.targets
        if self.targets != "all" and not targets:
            raise ValueError("targets: is empty; name the columns to forecast, or write all")
        used = [self.time, *([self.series] if self.series is not None else []), *targets, *self.features]
        if twice := sorted({name for name in used if used.count(name) > 1}):
            raise ValueError(
                f"column '{twice[0]}' is named twice among time, series, targets and features; the past of a target is "
                "seen without naming it in features: name each column once"
            )
        steps = (self.train_steps, self.val_steps, self.test_steps)
        if any(steps) and not all(steps):
            raise ValueError(
                f"train_steps {steps[0]}, val_steps {steps[1]} and test_steps {steps[2]} go together; give all or none"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A CSV file as text."""

    header: list[str]
    rows: list[list[str]]
    lines: NDArray[np.int64]
    """(rows,) line of the file on which each row ends, from 1."""

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def load(config: SeriesCSVConfig, root: Path, scratch: Path) -> RawDataset:
    """Read and check a file of series.

    Returns:
        arrays: values (T, F) float64, targets first, all series behind one another, NaN where a number is missing;
        offsets (series + 1,) int64 into them; time (T,) int64, microseconds since 1970.

    Raises:
        DataError: listing everything that is wrong with the file.
    """
    problems: list[Problem] = []
    table = read_table(root, config.path, problems)
    targets = _check_columns(config, table, problems)
    settle(config.path, problems, "stop")
    columns = (*targets, *config.features)
    values = np.stack([_numbers(config, table, name, problems) for name in columns], axis=1)
    clock = read_times(table.column(config.time), table.lines.tolist(), config.path, problems)
    if any(problem.severity != "warning" for problem in problems):
        settle(config.path, problems, "stop")
    ids = [""] * len(table.rows) if config.series is None else table.column(config.series)
    parts, times, names = _by_series(config, values, clock, ids, table.lines, problems)
    problems += _lengths(config, parts, names) + _constant(config, parts, columns)
    warnings, _ = settle(config.path, problems, "stop")
    about = f"{len(parts)} series of {sum(map(len, parts)):,} steps from {config.path}; times are {clock.form}"
    return RawDataset(
        kind="forecasting",
        classes=targets,
        arrays={
            "values": np.concatenate(parts),
            "offsets": np.cumsum([0, *map(len, parts)]).astype(np.int64),
            "time": np.concatenate(times),
        },
        about=about,
        warnings=warnings,
    )


def read_table(root: Path, name: str, problems: list[Problem]) -> Table:
    """Read a CSV file strictly: UTF-8, commas, as many fields in each row as in the header."""
    path, empty = root / name, Table(header=[], rows=[], lines=np.zeros(0, dtype=np.int64))

    def report(rule: str, where: str, found: str, expected: str, severity: Literal["error", "refused"] = "error") -> Table:
        problems.append(Problem(rule=rule, where=where, found=found, expected=expected, severity=severity))
        return empty

    if not path.resolve().is_relative_to(root.resolve()):
        return report("outside", name, "leads out of the folder of raw data", "copy the file into it", "refused")
    if not path.is_file():
        return report("no-file", name, "no such file", f"put it into {root}, or correct data.path")
    header: list[str] = []
    rows, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            for row in reader:
                if len(row) == len(header):
                    rows.append(row)
                    lines.append(reader.line_num)
                elif row:
                    found = f"{len(row)} fields"
                    report("ragged-row", f"{name}:{reader.line_num}", found, f"the header has {len(header)}: mend the row")
    except UnicodeDecodeError as error:
        return report("encoding", name, f"byte {error.start} is not UTF-8", "save the file as UTF-8")
    except csv.Error as error:
        return report("unreadable-row", f"{name}:{reader.line_num}", str(error), "mend the row")
    if not rows:
        report("empty", name, "holds no rows under its header", "a row for each time step is needed")
    return Table(header=header, rows=rows, lines=np.array(lines, dtype=np.int64))


def _check_columns(config: SeriesCSVConfig, table: Table, problems: list[Problem]) -> tuple[str, ...]:
    """Return the targets; columns that are missing or doubled are added to `problems`."""
    series = () if config.series is None else (config.series,)
    other = (config.time, *series, *config.features)
    targets = tuple(name for name in table.header if name not in other) if config.targets == "all" else config.targets
    if not table.header:
        return targets
    for name in {name for name in table.header if table.header.count(name) > 1}:
        found = f"{table.header.count(name)} columns of this name"
        problems.append(Problem(rule="doubled-column", where=f"{config.path}:{name}", found=found, expected="rename one"))
    for name in (*other, *targets):
        if name not in table.header:
            near = nearest(name, table.header)
            semicolons = "; the header has semicolons: save the file with commas" if ";" in table.header[0] else ""
            expected = f"the file has {', '.join(table.header)}{near}{semicolons}"
            problems.append(Problem(rule="no-column", where=f"{config.path}:{name}", found="no such column", expected=expected))
    if not targets:
        expected = "add a column to forecast"
        problems.append(Problem(rule="no-target", where=config.path, found="no column is left for targets", expected=expected))
    return targets


def _numbers(config: SeriesCSVConfig, table: Table, name: str, problems: list[Problem]) -> Floats:
    """Return a column (rows,), NaN where a cell is empty; what is no number is added to `problems`."""
    values = np.full(len(table.rows), np.nan)
    for position, cell in enumerate(table.column(name)):
        text = cell.strip()
        number = math.nan if not text else _number(text)
        expected = ""
        if number is None or math.isinf(number):
            expected = "a finite number with a decimal point, or an empty cell where it is missing"
        elif math.isnan(number) and config.missing == "refuse":
            expected = "a number; fill it in, or set missing: interpolate"
        if expected:
            where, found = f"{config.path}:{table.lines[position]}", f"column {name} holds {cell!r}"
            problems.append(Problem(rule="not-a-number", where=where, found=found, expected=f"expected {expected}"))
        else:
            values[position] = number
    return values


def _number(text: str) -> float | None:
    try:
        # Python reads 1_000 as a thousand, which no other reader of CSV does.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _by_series(
    config: SeriesCSVConfig,
    values: Floats,
    clock: Clock,
    ids: list[str],
    lines: NDArray[np.int64],
    problems: list[Problem],
) -> tuple[list[Floats], list[NDArray[np.int64]], list[str]]:
    """Return values (T, F), times (T,) and name of each series, rows that were left out filled with NaN."""
    names = list(dict.fromkeys(ids))
    numbers = {name: number for number, name in enumerate(names)}
    which = np.array([numbers[name] for name in ids])
    order = np.argsort(which, kind="stable")
    parts, times, steps = [], [], set()
    for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        allow = config.missing == "interpolate"
        places, step = grid(clock.times[rows], lines[rows], config.path, clock.form, allow, problems)
        filled = np.full((places[-1] + 1, values.shape[1]), np.nan)
        filled[places] = values[rows]
        parts.append(filled)
        times.append(np.interp(np.arange(len(filled)), places, clock.times[rows]).astype(np.int64))
        if len(rows) > 1:
            steps.add(step)
    if len(steps) > 1 and not any(problem.rule.endswith(("-time", "-step")) for problem in problems):
        found, expected = f"series with {len(steps)} different time steps", "bring all series to one step"
        problems.append(Problem(rule="mixed-steps", where=config.path, found=found, expected=expected))
    return parts, times, names


def _lengths(config: SeriesCSVConfig, parts: list[Floats], names: list[str]) -> list[Problem]:
    """Return the series that are too short for a window in every split, or longer than what is used."""
    from trainyard.data.series_windows import borders

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
        if len(values) > ends[-1]:
            found, expected = f"{len(values) - ends[-1]:,} steps after the test split", "they are left out, as asked"
            problems.append(Problem(rule="steps-left-out", where=where, found=found, expected=expected, severity="warning"))
    return problems


def _constant(config: SeriesCSVConfig, parts: list[Floats], columns: tuple[str, ...]) -> list[Problem]:
    """Return the columns that do not change in the training split, or hold nothing there."""
    from trainyard.data.series_windows import borders

    training = np.concatenate([values[: borders(len(values), config)[1]] for values in parts])
    problems = []
    for name, values in zip(columns, training.T, strict=True):
        where, known = f"{config.path}:{name}", values[~np.isnan(values)]
        if not len(known):
            found, expected = "no number in the training split", "leave the column out, or raise the share of training"
            problems.append(Problem(rule="no-numbers", where=where, found=found, expected=expected))
        elif np.ptp(known) <= CONSTANT * max(1.0, float(np.abs(known).max())):
            found, expected = f"always {known[0]:g} in the training split", "it teaches nothing there; leave it out"
            problems.append(Problem(rule="constant-column", where=where, found=found, expected=expected, severity="warning"))
    return problems
