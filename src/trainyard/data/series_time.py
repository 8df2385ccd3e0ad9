"""The time column of a series: dates or epoch numbers onto one even grid, and what is wrong with them.

Clocks that a column may show: ISO dates without a zone (also 2016070118 and the like), ISO dates with one (compared in
UTC), years, and epoch numbers in seconds, milliseconds, microseconds or nanoseconds, told apart by their size. One column
shows one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import Problem

Times = NDArray[np.int64]
"""Microseconds since 1970-01-01."""
SECONDS = "epoch seconds"
EPOCHS = (
    (SECONDS, 1e11, 1_000_000, 1),
    ("epoch milliseconds", 1e14, 1_000, 1),
    ("epoch microseconds", 1e17, 1, 1),
    ("epoch nanoseconds", 1e20, 1, 1_000),
)
"""Name, the size that its numbers stay below (for dates until the year 5138), and how many are how many microseconds."""
COUNTED = 100_000_000_000_000
"""Microseconds since 1970, in 1973: what seconds are mostly above, and mere counters below."""
SHEET_DAYS = (20_000, 80_000)
"""Days of a spreadsheet, such as 42582 for 2016-07-31: from 1954 to 2119."""
SHEET_MONTHS = (180_001, 210_012)
"""Months such as 201607."""
ZONED, PLAIN, YEAR = "dates with a time zone", "dates without a time zone", "years"
COMPACT = re.compile(r"(19|20)\d{8}(\d{2}){0,2}")
"""Dates with the hour, and minutes and seconds, as weather services write them. As epoch numbers they would be of 2030 to
2036, of 1976, or of the year 2572 on."""
NUMBER = re.compile(r"-?\d+(\.\d+)?")
START = datetime(1970, 1, 1)
SHORTEST_MONTH = 28 * 24 * 3_600_000_000
"""Microseconds."""
HOUR = 3_600_000_000
"""Microseconds."""
NEARLY = 0.05
"""Of a step: how far times may be from even ones that are rounded (30 a second), or midnights of a zone with summer time."""
ROUNDED = 0.005
"""Of a step: how far the most frequent one may be from the mean of all, to be the series' own."""
MOST_FILLED = 2
"""Steps for each row, from which on a series has more gaps than numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A column of times."""

    times: Times
    form: str
    """What the column shows, in words."""


def read_times(cells: Sequence[str], lines: Sequence[int], path: str, problems: list[Problem]) -> Clock:
    """Return the times of a column; what cannot be read is added to `problems`."""
    times = np.zeros(len(cells), dtype=np.int64)
    first = ""
    offsets: dict[timedelta | None, int] = {}
    for position, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        form, value, offset = _read(cell)
        offsets.setdefault(offset, line)
        first = first or form
        times[position] = value
        if not form:
            expected = "expected a date such as 2016-07-01 00:00:00, or a whole number of seconds since 1970"
            problems.append(Problem(rule="unreadable-time", where=f"{path}:{line}", found=f"time {cell!r}", expected=expected))
        elif form != first:
            expected = f"the rows before have {first}: write all of them one way, best in UTC"
            found = f"time {cell!r} is of the {form}"
            problems.append(Problem(rule="mixed-times", where=f"{path}:{line}", found=found, expected=expected))
    if first == ZONED and len(offsets) > 1:
        line = list(offsets.values())[1]
        found = f"{len(offsets)} different offsets from UTC"
        expected = "times are compared in UTC; if they are not meant so, write one zone"
        problems.append(Problem(rule="time-zones", where=f"{path}:{line}", found=found, expected=expected, severity="warning"))
    if is_doubtful(times, first):
        found = f"numbers from {cells[0].strip()} on are read as seconds since 1970, from {_show(int(times[0]))} on"
        expected = "if they are days of a spreadsheet, or months such as 201607, write dates such as 2016-07-31"
        where = f"{path}:{lines[0]}"
        problems.append(Problem(rule="early-times", where=where, found=found, expected=expected, severity="warning"))
    return Clock(times=times, form=first)


def is_doubtful(times: Times, form: str) -> bool:
    """Whether a column's numbers may be days or months rather than the seconds as which they are read."""
    if form != SECONDS or not len(times):
        return False
    numbers = times // 1_000_000
    low, high = int(numbers.min()), int(numbers.max())
    days = SHEET_DAYS[0] <= low and high < SHEET_DAYS[1]
    months = SHEET_MONTHS[0] <= low and high <= SHEET_MONTHS[1]
    return days or (months and bool(((numbers % 100 >= 1) & (numbers % 100 <= 12)).all()))


def grid(
    times: Times, lines: NDArray[np.int64], path: str, clock: str, allow_gaps: bool, problems: list[Problem]
) -> tuple[Times, int]:
    """Return the place of each row on an even grid (rows,), counted from 0, and the step of the grid (0: months).

    Args:
        times: (rows,) of one series.
        lines: (rows,) of the file.
        path: of the file, for messages.
        clock: what the column shows.
        allow_gaps: whether steps may be missing.
        problems: what is wrong with the times is added to it.
    """
    steps = np.diff(times)
    if len(steps) > 1 and (steps < 0).all():
        problems.append(_backwards(times, lines, path))
        return np.arange(len(times)), 0
    for position in np.flatnonzero(steps <= 0):
        problems.append(_not_after(times, int(position), lines, path, clock))
    if len(steps) == 0 or (steps <= 0).any():
        return np.arange(len(times)), 0
    found, counts = np.unique(steps, return_counts=True)
    step = int(found[counts.argmax()])
    months = _months(times) if len(found) > 1 else None
    units, size = (steps, step) if months is None else (np.diff(months), int(np.diff(months).min()))
    even = units % size == 0 if allow_gaps else units == size
    if months is None and not even.all() and (far := _off_grid(times)) <= NEARLY:
        problems.append(_nearly_even(steps, far, f"{path}:{lines[0]}"))
        mean = round(float(steps.mean()))
        # What is rounded has two steps around its own; a change of the clock leaves its own the most frequent.
        return np.arange(len(times)), step if abs(step - mean) < ROUNDED * mean else mean
    doubt = "; are these numbers seconds? write dates such as 2016-07-31" if is_doubtful(times, clock) else ""
    for position in np.flatnonzero(~even):
        whole = units[position] % size == 0
        hint = "add the missing rows, or set missing: interpolate" if whole else "bring all rows to even steps"
        hint += "" if whole else "; missing: interpolate fills whole steps only"
        hour = clock == PLAIN and abs(abs(int(steps[position])) - step) == HOUR
        clock_hint = "; an hour at a clock change? write the times in UTC" if hour else ""
        expected = f"expected a step of {_span(step) if months is None else f'{size} month(s)'}: {hint}{clock_hint}{doubt}"
        row = f"{path}:{lines[position + 1]}"
        text = f"a step of {_span(int(steps[position]))} to {_show(int(times[position + 1]))}"
        problems.append(Problem(rule="irregular-step", where=row, found=text, expected=expected))
    places = np.concatenate([[0], np.cumsum(units // size)])
    if allow_gaps and places[-1] >= MOST_FILLED * len(times):
        text = f"{len(times):,} rows for {places[-1] + 1:,} steps of {_span(step)}"
        expected = "less than half may be missing: mend the times"
        problems.append(Problem(rule="irregular-step", where=f"{path}:{lines[0]}", found=text, expected=expected))
        return np.arange(len(times)), 0
    return places, 0 if months is not None else step


def _nearly_even(steps: Times, far: float, where: str) -> Problem:
    """Return the warning of steps that are as even as they could be written."""
    return Problem(
        rule="nearly-even",
        where=where,
        found=f"steps of {_span(int(steps.min()))} to {_span(int(steps.max()))}, up to {far:.1%} of a step from even ones",
        expected="they are taken for even, as of a clock that is rounded or changed",
        severity="warning",
    )


def usual_step(times: Times) -> int:
    """Return the step of one series (rows,) on an even grid; 0 where it has none, or one of months or longer."""
    step = int(np.median(np.diff(times))) if len(times) > 1 else 0
    return step if step < SHORTEST_MONTH else 0


def other_step(step: int, trained: int) -> str:
    """Return what is wrong with a series that has other steps than those of the training; nothing where either is unknown."""
    if not step or not trained or abs(step - trained) <= NEARLY * trained:
        return ""
    return f"steps of {_span(step)}; the model learned from steps of {_span(trained)}: bring the rows to these"


def following(times: Times, step: int, count: int) -> list[datetime]:
    """Return the times after the last one, as many as are asked for; none after a single time, which has no step.

    Args:
        times: (rows,) of one series, on an even grid.
        step: of the grid, as `grid` returns it.
        count: of times.
    """
    last, numbers = int(times[-1]), range(1, count + 1)
    months = _months(times) if len(times) > 1 and (step == 0 or step >= SHORTEST_MONTH) else None
    if months is None:
        return [START + timedelta(microseconds=last + step * number) for number in numbers] if step else []
    size = int(np.diff(months).min())
    later = np.datetime64(int(months[-1]), "M") + size * np.arange(1, count + 1)
    moments = times.astype("datetime64[us]")
    within = moments - moments.astype("datetime64[M]").astype("datetime64[us]")
    before_next = (moments.astype("datetime64[M]") + 1).astype("datetime64[us]") - moments
    # The same distance from the start of each month, or else from its end.
    same = len(np.unique(within)) == 1
    found = later.astype("datetime64[us]") + within[-1] if same else (later + 1).astype("datetime64[us]") - before_next[-1]
    return [START + timedelta(microseconds=int(moment)) for moment in found.astype(np.int64)]


def _off_grid(times: Times) -> float:
    """Return how far the times (rows,) are from even ones between the first and the last, as a share of a step."""
    even = np.linspace(0, float(times[-1] - times[0]), len(times))
    return float(np.abs(times - times[0] - even).max() / even[1])


def _backwards(times: Times, lines: NDArray[np.int64], path: str) -> Problem:
    """Return the problem of rows that all are earlier than those before them."""
    return Problem(
        rule="unsorted-time",
        where=f"{path}:{lines[1]}",
        found=f"the rows run backwards from here on, from {_show(int(times[0]))} to {_show(int(times[-1]))}",
        expected="sort the rows by time, the earliest first",
    )


def _not_after(times: Times, position: int, lines: NDArray[np.int64], path: str, clock: str) -> Problem:
    """Return the problem of a row that is not later than the row before."""
    moment, before, line = int(times[position + 1]), int(times[position]), lines[position]
    same = moment == before
    hint = "; if a clock was put back there, write the times in UTC" if clock == PLAIN and same else ""
    return Problem(
        rule="duplicate-time" if same else "unsorted-time",
        where=f"{path}:{lines[position + 1]}",
        found=f"{_show(moment)} is {'the same time as' if same else 'earlier than'} row {line} ({_show(before)})",
        expected=f"{'keep one row of a time' if same else 'sort the rows by time'}, each series for itself{hint}",
    )


def _months(times: Times) -> Times | None:
    """Return months since 1970 (rows,) where all times are at the same moment of a month, counted from either end."""
    moments = times.astype("datetime64[us]")
    months = moments.astype("datetime64[M]")
    from_start = moments - months.astype("datetime64[us]")
    from_end = (months + 1).astype("datetime64[us]") - moments
    if len(np.unique(from_start)) > 1 and len(np.unique(from_end)) > 1:
        return None
    numbers = months.astype(np.int64)
    return numbers if len(np.unique(numbers)) == len(numbers) else None


def _read(cell: str) -> tuple[str, int, timedelta | None]:
    """Return what a cell shows, its microseconds since 1970, and its offset from UTC."""
    text = cell.strip()
    if re.fullmatch(r"\d{4}", text):
        return (YEAR, (datetime(int(text), 1, 1) - START) // timedelta(microseconds=1), None) if int(text) else ("", 0, None)
    if COMPACT.fullmatch(text):
        with suppress(ValueError):
            # Python reads them with a sign between date and time.
            moment = datetime.fromisoformat(f"{text[:8]}T{text[8:]}")
            return PLAIN, (moment - START) // timedelta(microseconds=1), None
    if NUMBER.fullmatch(text) and not re.fullmatch(r"\d{8}", text):
        number = float(text)
        for name, below, size, of in EPOCHS:
            if abs(number) < below:
                return name, round(number * size / of) if "." in text else int(text) * size // of, None
        return "", 0, None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "", 0, None
    offset = moment.utcoffset()
    plain = moment if offset is None else moment.astimezone(UTC).replace(tzinfo=None)
    return PLAIN if offset is None else ZONED, (plain - START) // timedelta(microseconds=1), offset


def _show(time: int) -> str:
    return str(START + timedelta(microseconds=time))


def _span(microseconds: int) -> str:
    return str(timedelta(microseconds=microseconds))
