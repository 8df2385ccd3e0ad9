"""What can be wrong with the file of a series, one fault a case; and what no model may see: the future."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard.data import sources
from trainyard.data.batches import gather
from trainyard.data.packed import SPLITS, open_split, read_card
from trainyard.data.prepare import prepare
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.errors import InputError

HOURS, CONTEXT, HORIZON = 60, 6, 3
Lines = list[str]


def config(**changes: Any) -> SeriesCSVConfig:
    values = {"path": "s.csv", "time": "time", "targets": ("load",), "context_length": CONTEXT, "horizon": HORIZON}
    return SeriesCSVConfig(source="series_csv", **{**values, **changes})


def rows(count: int = HOURS, start: str = "2024-01-01") -> Lines:
    moments = (datetime.fromisoformat(start) + timedelta(hours=hour) for hour in range(count))
    return [f"{moment},{5 + hour % 7},{hour * 0.5}" for hour, moment in enumerate(moments)]


def times(cells: Lines) -> Lines:
    return [f"{cell},{number % 7},{number}" for number, cell in enumerate(cells)]


def read(folder: Path, lines: Lines, header: str = "time,load,wind", **changes: Any) -> RawDataset:
    (folder / "s.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return sources.load(config(**changes), folder, folder / "scratch")


def swapped(first: int, second: int) -> Lines:
    lines = rows()
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def without(*numbers: int) -> Lines:
    return [line for number, line in enumerate(rows()) if number not in numbers]


EPOCH = 1_704_067_200
ZONED = [f"{moment.split(',')[0]}+01:00" for moment in rows()]
AUTUMN = [f"2024-10-27 {hour:02d}:00" for hour in (0, 1, 2, 2, *range(3, 24))] + [f"2024-10-28 {h:02d}:00" for h in range(24)]
SPRING = [f"2024-03-31 {hour:02d}:00" for hour in (0, 1, *range(3, 24))] + [f"2024-04-01 {hour:02d}:00" for hour in range(24)]
FAULTS: dict[str, tuple[Lines, set[tuple[str, str]], str]] = {
    "shorter than a window": (
        rows(CONTEXT + HORIZON - 1),
        {("short-series", "s.csv")},
        f"train needs {CONTEXT + HORIZON} (context_length {CONTEXT}, horizon {HORIZON})",
    ),
    "a test part shorter than the horizon": (
        rows(13),
        {("short-series", "s.csv")},
        "13 steps, of which 1 go to val; val needs 3",
    ),
    "one row": (rows(1), {("short-series", "s.csv")}, "1 steps, of which"),
    "no rows": ([], {("empty", "s.csv")}, "holds no rows under its header"),
    "two rows in the wrong order": (
        swapped(10, 11),
        {("unsorted-time", "s.csv:13")},
        "2024-01-01 10:00:00 is earlier than row 12 (2024-01-01 11:00:00); sort the rows by time",
    ),
    "the newest row first": (
        rows()[::-1],
        {("unsorted-time", "s.csv:3")},
        "the rows run backwards from here on, from 2024-01-03 11:00:00 to 2024-01-01 00:00:00; sort the rows by time",
    ),
    "a time twice": (
        [*rows()[:10], rows()[9], *rows()[10:]],
        {("duplicate-time", "s.csv:12")},
        "2024-01-01 09:00:00 is the same time as row 11",
    ),
    "minutes between the hours": (
        [line.replace("20:00:00", "20:30:00") for line in rows()],
        {("irregular-step", f"s.csv:{row}") for row in (22, 23, 46, 47)},
        "expected a step of 1:00:00: bring all rows to even steps; missing: interpolate fills whole steps only",
    ),
    "an hour left out": (
        without(20),
        {("irregular-step", "s.csv:22")},
        "a step of 2:00:00 to 2024-01-01 21:00:00; expected a step of 1:00:00: add the missing rows",
    ),
    "a zone in some rows": (
        times([*ZONED[:30], *(cell.removesuffix("+01:00") for cell in ZONED[30:])]),
        {("mixed-times", f"s.csv:{row}") for row in range(32, HOURS + 2)},
        "is of the dates without a time zone; the rows before have dates with a time zone: write all of them one way",
    ),
    "seconds among milliseconds": (
        times([str((EPOCH + 3600 * hour) * (1 if hour == 30 else 1000)) for hour in range(HOURS)]),
        {("mixed-times", "s.csv:32")},
        "is of the epoch seconds; the rows before have epoch milliseconds",
    ),
    "dates among seconds": (
        times([*(str(EPOCH + 3600 * hour) for hour in range(59)), "2024-01-03 11:00:00"]),
        {("mixed-times", "s.csv:61")},
        "is of the dates without a time zone; the rows before have epoch seconds",
    ),
    "a clock put back": (
        times(AUTUMN),
        {("duplicate-time", "s.csv:5")},
        "if a clock was put back there, write the times in UTC",
    ),
    "a clock put forward": (
        times(SPRING),
        {("irregular-step", "s.csv:4")},
        "an hour at a clock change? write the times in UTC",
    ),
    "days before months": (
        times([f"{1 + hour % 28:02d}/{1 + hour // 28:02d}/2024" for hour in range(HOURS)]),
        {("unreadable-time", f"s.csv:{row}") for row in range(2, HOURS + 2)},
        "expected a date such as 2016-07-01 00:00:00",
    ),
    "a word for a number": (
        [line.replace(",5,3.5", ",n/a,3.5") for line in rows()],
        {("not-a-number", "s.csv:9")},
        "column load holds 'n/a'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_series_with_a_fault_is_refused_with_its_row(tmp_path: Path, fault: str) -> None:
    lines, expected, said = FAULTS[fault]
    with pytest.raises(DataError) as caught:
        read(tmp_path, lines)
    assert caught.value.exit_code == 2
    assert {(problem.rule, problem.where) for problem in caught.value.problems} == expected
    assert said in str(caught.value)


CLOCKS: dict[str, tuple[Lines, str]] = {
    "seconds": ([str(EPOCH + 3600 * hour) for hour in range(HOURS)], "epoch seconds"),
    "milliseconds": ([str((EPOCH + 3600 * hour) * 1000) for hour in range(HOURS)], "epoch milliseconds"),
    "dates": ([line.split(",")[0] for line in rows()], "dates without a time zone"),
    "dates in a zone": ([f"{line.split(',')[0]}+00:00" for line in rows()], "dates with a time zone"),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_every_clock_gives_the_same_times_and_its_unit_is_said(tmp_path: Path, clock: str) -> None:
    cells, form = CLOCKS[clock]
    raw = read(tmp_path, times(cells))
    assert raw.arrays["time"].tolist() == [(EPOCH + 3600 * hour) * 1_000_000 for hour in range(HOURS)]
    assert f"times are {form}" in raw.about and not raw.warnings


def test_a_clock_change_with_its_offsets_is_even_and_told(tmp_path: Path) -> None:
    start = datetime.fromisoformat("2024-10-26T22:00+00:00")
    moments = [start + timedelta(hours=hour) for hour in range(HOURS)]
    cells = [
        f"{(moment + timedelta(hours=2 if hour < 3 else 1)).replace(tzinfo=None)}+0{2 if hour < 3 else 1}:00"
        for hour, moment in enumerate(moments)
    ]
    raw = read(tmp_path, times(cells))
    assert set(np.diff(raw.arrays["time"])) == {3_600_000_000}
    assert [(warning.rule, warning.where) for warning in raw.warnings] == [("time-zones", "s.csv:5")]


def test_gaps_are_filled_where_that_is_asked_for_and_only_whole_steps(tmp_path: Path) -> None:
    raw = read(tmp_path, without(20, 21), missing="interpolate")
    assert np.flatnonzero(np.isnan(raw.arrays["values"][:, 0])).tolist() == [20, 21]
    with pytest.raises(DataError, match="whole steps only"):
        read(tmp_path, [line.replace("20:00:00", "20:30:00") for line in rows()], missing="interpolate")


def test_a_constant_series_is_a_warning_and_packs_without_a_number_that_is_none(tmp_path: Path) -> None:
    lines = [f"{line.split(',')[0]},3,0.1" for line in rows()]
    raw = read(tmp_path, lines, targets=("load", "wind"))
    assert {(warning.rule, warning.where) for warning in raw.warnings} == {
        ("constant-column", "s.csv:load"),
        ("constant-column", "s.csv:wind"),
    }
    prepare("s", config(targets=("load", "wind")), tmp_path / "out", root=tmp_path)
    for name in SPLITS:
        assert np.abs(open_split(tmp_path / "out", name).arrays["values"]).max() < 1e-6


def test_of_several_series_the_short_and_the_faulty_are_named(tmp_path: Path) -> None:
    lines = [f"{line},long" for line in rows()] + [f"{line},short" for line in rows(5)]
    with pytest.raises(DataError, match="series short: 5 steps") as caught:
        read(tmp_path, lines, "time,load,wind,place", series="place")
    assert {problem.where for problem in caught.value.problems} == {"series short"}
    lines = [f"{line},north" for line in rows()] + [f"{line},south" for line in swapped(3, 4)]
    with pytest.raises(DataError) as caught:
        read(tmp_path, lines, "time,load,wind,place", series="place")
    assert [(problem.rule, problem.where) for problem in caught.value.problems] == [("unsorted-time", f"s.csv:{HOURS + 6}")]


def as_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "said", "code"),
    [
        (lambda path: None, "s.csv: no such file or folder", 2),
        (as_folder, "s.csv: is a folder; series_csv reads a file", 2),
        (lambda path: path.touch(), "s.csv: is empty: it holds no rows", 2),
        (lambda path: os.symlink("gone.csv", path), "s.csv: a link to what is not there", 2),
        (lambda path: os.symlink(os.devnull, path), "s.csv: leads out of the folder", 5),
    ],
    ids=["missing", "a folder", "empty", "a dangling link", "a link out of the folder"],
)
def test_a_path_without_a_table_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str, code: int) -> None:
    make(tmp_path / "s.csv")
    with pytest.raises(InputError, match=said) as caught:
        sources.load(config(), tmp_path, tmp_path / "scratch")
    assert caught.value.exit_code == code


# --- The future


VALUES = np.random.default_rng(0).normal(size=(120, 2)).round(3)
VALUES[np.random.default_rng(1).random((120, 2)) < 0.1] = np.nan
LEAKS = {"features": ("wind",), "missing": "interpolate", "val_fraction": 0.2, "test_fraction": 0.2}


def packed(folder: Path, values: np.ndarray[Any, Any]) -> Path:
    folder.mkdir()
    cells = [f"{EPOCH + 3600 * step},{a},{b}".replace("nan", "") for step, (a, b) in enumerate(values)]
    (folder / "s.csv").write_text("\n".join(["time,load,wind", *cells]) + "\n")
    prepare("s", config(**LEAKS), folder / "out", root=folder)
    return folder / "out"


@pytest.mark.parametrize("first", range(73, 118, 4))
def test_a_change_from_a_step_on_changes_no_bit_of_what_is_seen_before_it(tmp_path: Path, first: int) -> None:
    changed = VALUES.copy()
    changed[first:] = 1000 + np.arange(2 * (120 - first)).reshape(-1, 2)
    before, after = packed(tmp_path / "a", VALUES), packed(tmp_path / "b", changed)
    assert read_card(before).normalisation == read_card(after).normalisation
    compared = 0
    for name, start in (("train", 0), ("val", 72), ("test", 96)):
        splits = [open_split(folder, name) for folder in (before, after)]
        # A window is known by the step of its first target; contexts that end with a gap have none.
        offset = max(0, start - CONTEXT)
        windows = [{offset + int(s) + CONTEXT: number for number, s in enumerate(split.arrays["starts"])} for split in splits]
        for target in sorted(windows[0].keys() & windows[1].keys()):
            if target > first:
                continue
            seen = [gather(split, np.array([found[target]])).inputs[0] for split, found in zip(splits, windows, strict=True)]
            assert seen[0].numpy().tobytes() == seen[1].numpy().tobytes(), f"{name}: the window before step {target}"
            compared += 1
    assert compared > 50
