"""Series of measured numbers in a table (CSV, TSV, JSON lines, Parquet): a row a time step, a column a quantity.

Words: context_length steps are seen, horizon steps after them are forecast (GluonTS's pair, arXiv:1906.05264, but for its
prediction_length). A series is cut by time into train, val and test, never at random: `series_windows` does that.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import DataError, Problem, settle
from trainyard.data.raw import RawDataset
from trainyard.data.series_time import NEARLY, Clock, grid, read_times
from trainyard.data.splits import check_fractions
from trainyard.data.table_form import IN_THE_RECIPE, Block, Delimiter, Encoding, Findings, Number, OpenTable, TableForm, shown
from trainyard.data.tables import check_columns, open_table, read_blocks
from trainyard.params import Count, Fraction

Floats = NDArray[np.float64]
NOTHING = {"nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "missing", "-", "--", "?", ".", "\\n"}
"""What programs write for a number that is missing, in small letters: R, SQL, spreadsheets, SAS, MySQL."""


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
    """Of the validation split, after those of training."""
    test_steps: Count | None = None
    """Of the test split, after those of validation."""
    columns: tuple[str, ...] | None = None
    """Names of all columns in their order, for a file without a header."""
    encoding: Encoding = "auto"
    """Of the file's characters. auto: UTF-16 where its byte order mark stands at the start, else UTF-8."""
    delimiter: Delimiter = "auto"
    """What stands between the fields of a row. auto: the one that cuts the first rows alike."""
    decimal: Literal[".", ","] = "."
    """What stands before the fraction of a number."""

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

    @property
    def table_form(self) -> TableForm:
        """How the file is written."""
        # A recipe of series says nothing about quotes.
        advice = replace(IN_THE_RECIPE, quotes="")
        return TableForm(columns=self.columns, encoding=self.encoding, delimiter=self.delimiter, advice=advice)


def load(config: SeriesCSVConfig, root: Path, scratch: Path) -> RawDataset:
    """Read and check a file of series.

    Returns:
        arrays: values (T, F) float64, targets first, all series behind one another, NaN where a number is missing;
        offsets (series + 1,) int64 into them; time (T,) int64, microseconds since 1970.

    Raises:
        DataError: listing everything that is wrong with the file.
    """
    from trainyard.data.series_checks import check_names, check_numbers, check_stand_ins

    problems: list[Problem] = []
    series = () if config.series is None else (config.series,)
    named = (*(() if config.targets == "all" else config.targets), *config.features)
    table = open_table(root, config.path, config.table_form, problems, (config.time, *series, *named))
    if table is None:
        raise DataError(config.path, problems)
    targets = _targets(config, table)
    columns = (*targets, *config.features)
    if not check_columns(table, (config.time, *series, *columns)) or not targets:
        raise DataError(config.path, problems)
    cells, lines, values = _read(config, table, columns)
    clock = read_times(cells[config.time], lines.tolist(), config.path, problems)
    ids = [""] * len(lines) if config.series is None else cells[config.series]
    problems += check_names(config, ids, lines) if config.series is not None else []
    if any(problem.severity != "warning" for problem in problems):
        raise DataError(config.path, problems)
    parts, times, names = _by_series(config, values, clock, ids, lines, problems)
    problems += check_stand_ins(config.path, values, lines, columns)
    problems += check_numbers(config, parts, names, columns, len(targets))
    warnings, _ = settle(config.path, problems, "stop")
    about = f"{len(parts)} series of {sum(map(len, parts)):,} steps from {config.path} ({table.about}); times are {clock.form}"
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


def _targets(config: SeriesCSVConfig, table: OpenTable) -> tuple[str, ...]:
    if config.targets != "all":
        return config.targets
    other = (config.time, config.series, *config.features)
    targets = tuple(name for name in table.columns if name not in other and name)
    if not targets:
        table.found.add("no-target", "no column is left for targets", "add a column to forecast")
    return targets


def _read(
    config: SeriesCSVConfig, table: OpenTable, columns: tuple[str, ...]
) -> tuple[dict[str, list[str]], NDArray[np.int64], Floats]:
    """Return the cells of times and series, the line of each row, and the numbers of the columns (rows, F)."""
    kept = (config.time, *([] if config.series is None else [config.series]))
    cells: dict[str, list[str]] = {name: [] for name in kept}
    lines: list[int] = []
    values = []
    for block in read_blocks(table, (*kept, *columns)):
        lines += block.lines
        for name in kept:
            cells[name] += block.cells[name]
        values.append(np.stack([_numbers(config, block, name, table.found) for name in columns], axis=1))
    return cells, np.array(lines, dtype=np.int64), np.concatenate(values) if values else np.zeros((0, len(columns)))


def _numbers(config: SeriesCSVConfig, block: Block, name: str, found: Findings) -> Floats:
    """Return the numbers of a column in a block, NaN where a cell is empty; what is no number is added to `found`."""
    cells = block.cells[name]
    together = "\0".join(cells)
    if "_" not in together and (config.decimal == "." or "." not in together):
        # Nearly always all of them are numbers, and then this is several times faster.
        with suppress(ValueError):
            plain = cells if config.decimal == "." else together.replace(",", ".").split("\0")
            quick = np.fromiter(map(float, plain), dtype=np.float64, count=len(cells))
            if np.isfinite(quick).all():
                return quick
    values = np.full(len(cells), np.nan)
    for position, cell in enumerate(cells):
        number = read_number(cell, config.decimal)
        expected = ""
        if number is None or math.isinf(number):
            expected = f"a finite number with a decimal {'point' if config.decimal == '.' else 'comma'}, or an empty cell"
            if number is None and config.decimal == "." and read_number(cell, ",") is not None:
                expected += "; for decimal commas, set data.decimal: ','"
        elif math.isnan(number) and config.missing == "refuse":
            expected = "a number; fill it in, or set missing: interpolate"
        if expected:
            found.row("not-a-number", block.lines[position], f"column {name} holds {shown(cell)}", f"expected {expected}")
        else:
            values[position] = number
    return values


def read_number(cell: str, decimal: str) -> float | None:
    """Return the number that a cell holds, which may be infinite; NaN where it is missing; None where it is no number."""
    text = cell.strip()
    if not text or text.lower() in NOTHING:
        return math.nan
    if decimal == "," and not isinstance(cell, Number):
        if "." in text:
            return None
        text = text.replace(",", ".")
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
    if (
        len(steps) > 1
        and max(steps) - min(steps) > NEARLY * max(steps)
        and not any(problem.rule.endswith(("-time", "-step")) for problem in problems)
    ):
        found, expected = f"series with {len(steps)} different time steps", "bring all series to one step"
        problems.append(Problem(rule="mixed-steps", where=config.path, found=found, expected=expected))
    return parts, times, names
