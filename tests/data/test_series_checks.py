"""Numbers of a series that are numbers, and hardly meant: those that stand for none, and series of other sizes."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from trainyard.data.packed import read_card
from trainyard.data.prepare import prepare
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset
from trainyard.data.raw_form import SeriesForm, form_of, from_json, to_json
from trainyard.data.series_csv import NOTHING, SeriesCSVConfig, load

DAYS = [str((datetime(2024, 1, 1) + timedelta(days=day)).date()) for day in range(120)]
REPOSITORY = Path(__file__).parents[2]


def config(**changes: Any) -> SeriesCSVConfig:
    values = {"path": "s.csv", "time": "day", "targets": ("load",), "context_length": 4, "horizon": 2}
    return SeriesCSVConfig(source="series_csv", **{**values, **changes})


def read(root: Path, cells: list[str], **changes: Any) -> RawDataset:
    lines = [f"{day},{cell}" for day, cell in zip(DAYS, cells, strict=True)]
    (root / "s.csv").write_text("\n".join(["day,load", *lines]) + "\n", encoding="utf-8")
    return load(config(**changes), root, root)


def plain(count: int = len(DAYS)) -> list[str]:
    return [f"{20 + 5 * np.sin(day):.2f}" for day in range(count)]


@pytest.mark.parametrize("word", ["NULL", "NA", "N/A", "#N/A", "<NA>", "None", "nan", "-", "?", ".", "\\N"])
def test_words_for_nothing_are_missing_numbers_where_gaps_are_filled(tmp_path: Path, word: str) -> None:
    cells = plain()
    cells[7] = word
    raw = read(tmp_path, cells, missing="interpolate")
    assert np.flatnonzero(np.isnan(raw.arrays["values"][:, 0])).tolist() == [7]
    with pytest.raises(
        DataError, match=r"s\.csv:9: column load holds .*; expected a number; fill it in, or set missing: interp"
    ):
        read(tmp_path, cells)


@pytest.mark.parametrize(
    ("file", "beginning"),
    [
        ("src/trainyard/web/page/rows.js", "MISSING = new Set("),
        ("android/app/src/main/kotlin/org/trainyard/phone/input/Rows.kt", "MISSING = setOf"),
    ],
)
def test_pages_and_the_phone_take_the_same_words_for_nothing(file: str, beginning: str) -> None:
    found = re.search(re.escape(beginning) + r"[\[(](.*?)[\])]", (REPOSITORY / file).read_text(encoding="utf-8"))
    assert found is not None
    assert set(json.loads(f"[{found[1]}]")) == NOTHING | {""}


@pytest.mark.parametrize(
    ("number", "rows", "warned"),
    [("-999", [9], True), ("-200", [9, 20], True), ("1e20", [9, 20], True), ("-200", [9], False), ("0", [9, 20], False)],
)
def test_a_number_that_may_stand_for_none_is_told_of(tmp_path: Path, number: str, rows: list[int], warned: bool) -> None:
    cells = plain()
    for row in rows:
        cells[row] = number
    found = [(problem.rule, problem.where, problem.found) for problem in read(tmp_path, cells).warnings]
    count = "2 cells hold" if len(rows) == 2 else "1 cell holds"
    said = f"{count} {float(number):g}, and all others 15 to 25"
    assert found == ([("stand-in", "s.csv:11:load", said)] if warned else [])


@pytest.mark.parametrize(
    "cells", [["0"] * 90 + ["500"] * 30, [f"{day % 7}" for day in range(120)], ["-99"] * 60 + ["-98"] * 60]
)
def test_states_and_counts_are_not_told_of(tmp_path: Path, cells: list[str]) -> None:
    assert read(tmp_path, cells, train_steps=100, val_steps=10, test_steps=10).warnings == ()


def test_series_that_hardly_count_beside_a_large_one_are_named(tmp_path: Path) -> None:
    lines = [
        f"{day},{name},{float(cell) * size}"
        for name, size in (("all", 1000), ("north", 1), ("south", 100))
        for day, cell in zip(DAYS, plain(), strict=True)
    ]
    (tmp_path / "s.csv").write_text("\n".join(["day,place,load", *lines]) + "\n")
    [warning] = load(config(series="place"), tmp_path, tmp_path).warnings
    assert (warning.rule, warning.where) == ("unlike-series", "s.csv:load")
    assert "in series all, and much less in 1 of 3: north by 3.5" in warning.found


@pytest.mark.parametrize(("level", "severity"), [(1e5, ""), (1e6, "warning"), (1e9, "error")])
def test_changes_that_single_precision_does_not_hold_are_told_of_and_refused(
    tmp_path: Path, level: float, severity: str
) -> None:
    cells = [f"{level + float(cell)}" for cell in plain()]
    if severity == "error":
        with pytest.raises(
            DataError, match=r"s\.csv:load: numbers about 1e\+09 that change by 3\.5.* sees steps of 64; write diff"
        ):
            read(tmp_path, cells)
    else:
        assert [(problem.rule, problem.severity) for problem in read(tmp_path, cells).warnings] == (
            [("lost-digits", severity)] if severity else []
        )


def test_one_series_of_several_that_loses_its_digits_is_named(tmp_path: Path) -> None:
    lines = [
        f"{day},{name},{float(cell) + at}"
        for name, at in (("a", 0), ("b", 1e9))
        for day, cell in zip(DAYS, plain(), strict=True)
    ]
    (tmp_path / "s.csv").write_text("\n".join(["day,place,load", *lines]) + "\n")
    [warning] = load(config(series="place"), tmp_path, tmp_path).warnings
    assert (warning.rule, warning.severity) == ("lost-digits", "warning") and "in series b" in warning.found


def test_numbers_of_a_typed_file_have_a_decimal_point_whatever_stands_in_texts(tmp_path: Path) -> None:
    values = [float(cell) for cell in plain()]
    parquet.write_table(pa.table({"day": DAYS, "load": values}), tmp_path / "s.parquet")
    rows = [{"day": day, "load": value} for day, value in zip(DAYS, values, strict=True)]
    texts = [{"day": day, "load": str(value).replace(".", ",")} for day, value in zip(DAYS, values, strict=True)]
    for name, objects in (("n.jsonl", rows), ("t.jsonl", texts)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, objects)))
    for name in ("s.parquet", "n.jsonl", "t.jsonl"):
        raw = load(config(path=name, decimal=","), tmp_path, tmp_path)
        assert raw.arrays["values"][:, 0].tolist() == values


def test_decimal_commas_are_read_alike_with_and_without_a_gap(tmp_path: Path) -> None:
    lines = [f"{day};{cell.replace('.', ',')}" for day, cell in zip(DAYS, plain(), strict=True)]
    (tmp_path / "s.csv").write_text("\n".join(["day;load", *lines]) + "\n")
    whole = load(config(decimal=","), tmp_path, tmp_path).arrays["values"]
    lines[3] = f"{DAYS[3]};"
    (tmp_path / "s.csv").write_text("\n".join(["day;load", *lines]) + "\n")
    gap = load(config(decimal=",", missing="interpolate"), tmp_path, tmp_path).arrays["values"]
    assert np.delete(whole, 3).tolist() == np.delete(gap, 3).tolist() == [float(c) for n, c in enumerate(plain()) if n != 3]


def test_rows_without_their_series_and_series_written_in_two_ways_are_named(tmp_path: Path) -> None:
    lines = [f"{day},{name},{cell}" for name in ("north", "North ") for day, cell in zip(DAYS, plain(), strict=True)]
    (tmp_path / "s.csv").write_text("\n".join(["day,place,load", *lines]) + "\n")
    [warning] = load(config(series="place"), tmp_path, tmp_path).warnings
    assert (warning.rule, warning.where) == ("like-series", "s.csv:place")
    assert warning.found == "'north' and 'North ' differ in case or outer spaces only"
    (tmp_path / "s.csv").write_text("\n".join(["day,place,load", *lines, *(f"{day}, ,1" for day in DAYS)]) + "\n")
    with pytest.raises(DataError, match=r"120 problems\n  s\.csv:242: nothing in column place; name the series of each row"):
        load(config(series="place"), tmp_path, tmp_path)


def test_fewer_steps_than_are_asked_for_are_told_of(tmp_path: Path) -> None:
    [warning] = read(tmp_path, plain(), train_steps=80, val_steps=30, test_steps=100).warnings
    assert str(warning) == "s.csv: 120 steps of 210; test has 10 of them: lower train_steps or others"


def test_series_whose_steps_differ_by_their_rounding_are_of_one_step(tmp_path: Path) -> None:
    lines = [
        f"{1467331200 + number / rate:.6f},{name},{number % 9}.5"
        for name, rate in (("a", 30), ("b", 30.001))
        for number in range(99)
    ]
    (tmp_path / "s.csv").write_text("\n".join(["day,place,load", *lines]) + "\n")
    raw = load(config(series="place"), tmp_path, tmp_path)
    assert raw.arrays["offsets"].tolist() == [0, 99, 198]


def test_a_column_that_is_mostly_missing_and_a_test_of_filled_in_numbers_are_told_of(tmp_path: Path) -> None:
    cells = [cell if day % 10 == 0 else "" for day, cell in enumerate(plain())]
    found = {warning.rule: str(warning) for warning in read(tmp_path, cells, missing="interpolate").warnings}
    assert (
        "s.csv:load: 90% of its numbers are missing; windows whose last seen step lacks one are left out"
        in found["mostly-missing"]
    )
    assert "s.csv: 91.7% of the numbers to be forecast in the test split are missing; straight lines" in found["filled-in"]
    some = [cell if day != 110 else "" for day, cell in enumerate(plain())]
    assert [warning.rule for warning in read(tmp_path, some, missing="interpolate").warnings] == ["filled-in"]
    assert not read(tmp_path, [cell if day != 3 else "" for day, cell in enumerate(plain())], missing="interpolate").warnings


@pytest.mark.parametrize(("days", "step"), [(1, 86_400_000_000), (7, 7 * 86_400_000_000), (31, 0)])
def test_the_card_and_the_model_know_the_step_of_the_training(tmp_path: Path, days: int, step: int) -> None:
    lines = [f"{datetime(2024, 1, 1) + timedelta(days=days * number)},{cell}" for number, cell in enumerate(plain())]
    (tmp_path / "s.csv").write_text("\n".join(["day,load", *lines]) + "\n")
    card = prepare("s", config(), tmp_path / "out", root=tmp_path)
    assert card.step == read_card(tmp_path / "out").step == step
    assert from_json(to_json(form_of(config(), card))) == SeriesForm(time="day", step=step)
