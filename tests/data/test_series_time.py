from __future__ import annotations

import numpy as np
import pytest

from trainyard.data.problems import Problem
from trainyard.data.series_time import following, grid, read_times

HOUR = 3_600_000_000


def read(*cells: str) -> tuple[list[int], str, list[Problem]]:
    problems: list[Problem] = []
    clock = read_times(cells, range(2, len(cells) + 2), "s.csv", problems)
    return clock.times.tolist(), clock.form, problems


def place(cells: list[str], allow_gaps: bool = False) -> tuple[list[int], int, list[str]]:
    problems: list[Problem] = []
    clock = read_times(cells, range(2, len(cells) + 2), "s.csv", problems)
    places, step = grid(clock.times, np.arange(2, len(cells) + 2), "s.csv", clock.form, allow_gaps, problems)
    return places.tolist(), step, [f"{problem.rule} {problem}" for problem in problems]


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("1467331200", "epoch seconds"),
        ("1467331200000", "epoch milliseconds"),
        ("1467331200000000", "epoch microseconds"),
        ("1467331200000000000", "epoch nanoseconds"),
        ("1467331200.0", "epoch seconds"),
        ("2016-07-01", "dates without a time zone"),
        ("20160701", "dates without a time zone"),
        ("2016070100", "dates without a time zone"),
        ("201607010000", "dates without a time zone"),
        ("20160701000000", "dates without a time zone"),
        ("2016-07-01T02:00+02:00", "dates with a time zone"),
        ("2016-07-01 00:00Z", "dates with a time zone"),
    ],
)
def test_every_clock_gives_the_same_moment(cell: str, form: str) -> None:
    assert read(cell) == ([1467331200 * 1_000_000], form, [])


def test_seconds_among_milliseconds_are_named_with_their_row() -> None:
    problems = read("1467331200000", "1467334800", "1467338400000")[2]
    assert [(problem.where, problem.rule) for problem in problems] == [("s.csv:3", "mixed-times")]
    assert "time '1467334800' is of the epoch seconds" in problems[0].found


def test_a_zone_in_some_rows_alone_is_refused() -> None:
    problems = read("2024-01-01 00:00", "2024-01-01 01:00Z")[2]
    assert [(problem.rule, problem.severity) for problem in problems] == [("mixed-times", "error")]


def test_a_clock_change_with_offsets_is_even_in_utc() -> None:
    cells = ["2024-10-27T01:00+02:00", "2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00", "2024-10-27T03:00+01:00"]
    places, step, problems = place(cells)
    assert (places, step) == ([0, 1, 2, 3], HOUR)
    assert [problem.split()[0] for problem in problems] == ["time-zones"]


def test_a_clock_change_without_offsets_is_found_and_explained() -> None:
    autumn = place([f"2024-10-27 {hour:02d}:00" for hour in (0, 1, 2, 2, 3)])[2]
    assert len(autumn) == 1 and autumn[0].startswith("duplicate-time s.csv:5: 2024-10-27 02:00:00 is the same time as row 4")
    assert "write the times in UTC" in autumn[0]
    spring = place([f"2024-03-31 {hour:02d}:00" for hour in (0, 1, 3, 4, 5)])[2]
    assert len(spring) == 1 and "s.csv:4: a step of 2:00:00" in spring[0] and "write the times in UTC" in spring[0]


def test_times_out_of_order_are_named() -> None:
    found = place(["2024-01-01", "2024-01-03", "2024-01-02", "2024-01-04"])[2]
    assert len(found) == 1
    assert found[0].startswith("unsorted-time s.csv:4: 2024-01-02 00:00:00 is earlier than row 3 (2024-01-03 00:00:00)")


def test_a_gap_says_what_was_found_and_expected() -> None:
    found = place(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-06", "2024-01-07"])[2]
    assert len(found) == 1 and "s.csv:5: a step of 3 days" in found[0] and "expected a step of 1 day" in found[0]
    assert "clock change" not in found[0]


def test_allowed_gaps_keep_their_places() -> None:
    assert place(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-06"], allow_gaps=True)[0] == [0, 1, 2, 5]
    found = place(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04T12:00"], allow_gaps=True)[2]
    assert len(found) == 1 and "whole steps only" in found[0]


def test_a_huge_gap_is_refused_before_it_is_filled() -> None:
    cells = [str(1467331200 + second) for second in range(5)] + ["4000000000"]
    found = place(cells, allow_gaps=True)[2]
    assert len(found) == 1 and "less than half may be missing" in found[0]


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"],
        ["2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29"],
    ],
)
def test_months_are_even_though_their_days_are_not(cells: list[str]) -> None:
    assert place(cells) == ([0, 1, 2, 3], 0, [])
    assert len(place([*cells[:2], cells[3], "2024-12-31" if "30" in cells[0] else "2024-12-01"])[2]) >= 1


def test_years_and_quarters_are_even() -> None:
    assert place(["2019", "2020", "2021", "2022"])[0] == [0, 1, 2, 3]
    assert place(["2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01"])[0] == [0, 1, 2, 3]


@pytest.mark.parametrize("cell", ["", "01/07/2016", "2016-13-01", "yesterday", "0000"])
def test_what_is_no_time_is_named(cell: str) -> None:
    problems = read("2016-07-01", cell)[2]
    assert [(problem.rule, problem.where) for problem in problems] == [("unreadable-time", "s.csv:3")]


@pytest.mark.parametrize(
    "cells", [["42582", "42583", "42585"], ["42582.5", "42583.0", "42584.25"], ["201611", "201612", "201701"]]
)
def test_days_of_a_spreadsheet_and_months_without_a_sign_are_told_of(cells: list[str]) -> None:
    problems = read(*cells)[2]
    assert [(problem.rule, problem.severity, problem.where) for problem in problems] == [("early-times", "warning", "s.csv:2")]
    assert f"numbers from {cells[0]} on are read as seconds since 1970, from 1970-01-" in problems[0].found
    assert any("are these numbers seconds? write dates" in problem for problem in place(cells)[2])


@pytest.mark.parametrize(
    "cells",
    [
        ["0", "1", "2"],
        ["12000", "12100", "90000"],
        ["190050", "190051", "190052"],
        ["1467331200", "1467331201", "1467331202"],
        ["2016", "2017", "2018"],
    ],
)
def test_counted_steps_and_recent_seconds_are_not_doubted(cells: list[str]) -> None:
    assert read(*cells)[2] == []


@pytest.mark.parametrize(
    "cells",
    [
        [f"{1467331200 + number / 30:.3f}" for number in range(100)],
        [f"2024-03-{day}T00:00:00+0{1 + (day > 31)}:00" for day in range(10, 32)]
        + [f"2024-04-{day:02d}T00:00:00+02:00" for day in range(1, 20)],
        [f"2024-01-01T{hour:02d}:00:0{hour % 3}" for hour in range(24)],
    ],
    ids=["30 a second", "midnights of a zone with summer time", "seconds of delay"],
)
def test_steps_that_are_even_but_for_rounding_and_clock_changes_are_even(cells: list[str]) -> None:
    places, step, problems = place(cells)
    assert places == list(range(len(cells)))
    assert problems[-1].startswith("nearly-even s.csv:2: steps of ") and "they are taken for even" in problems[-1]
    assert step in (33_333, 24 * HOUR, HOUR + 1_000_000)


def test_a_step_left_out_among_those_is_still_named() -> None:
    cells = [f"{1467331200 + number / 30:.3f}" for number in range(100) if number != 50]
    assert {problem.split()[0] for problem in place(cells)[2]} == {"irregular-step"}


@pytest.mark.parametrize(
    ("cells", "after"),
    [
        (["2023-11-01", "2023-12-01", "2024-01-01"], ["2024-02-01", "2024-03-01"]),
        (["2023-07-01 06:00", "2023-08-01 06:00", "2023-09-01 06:00"], ["2023-10-01 06:00", "2023-11-01 06:00"]),
        (["2023-10-31", "2023-11-30", "2023-12-31"], ["2024-01-31", "2024-02-29"]),
        (["2023-03-31", "2023-06-30", "2023-09-30"], ["2023-12-31", "2024-03-31"]),
        (["2022", "2023"], ["2024-01-01", "2025-01-01"]),
        (["2024-02-28", "2024-02-29"], ["2024-03-01", "2024-03-02"]),
        (["2024-01-31", "2024-02-28", "2024-03-27"], ["2024-04-24", "2024-05-22"]),
        (["2024-01-01"], []),
    ],
)
def test_times_go_on_by_whole_months_where_they_did(cells: list[str], after: list[str]) -> None:
    problems: list[Problem] = []
    clock = read_times(cells, range(len(cells)), "s.csv", problems)
    step = grid(clock.times, np.arange(len(cells)), "s.csv", clock.form, True, problems)[1]
    found = [f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00") for moment in following(clock.times, step, 2)]
    assert (found, problems) == (after, [])


def test_hours_without_signs_between_them_go_on_after_midnight() -> None:
    assert place(["2016070122", "2016070123", "2016070200"]) == ([0, 1, 2], HOUR, [])


@pytest.mark.parametrize("cell", ["2019999999", "201613010000", "1967331200"])
def test_numbers_that_are_no_such_dates_are_epoch_numbers(cell: str) -> None:
    assert read(cell)[1].startswith("epoch ")
