from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.evaluation.test_figures import is_drawn
from tests.narrow import narrow
from trainyard.errors import InputError
from trainyard.studies.learning_curve import Curve, Point, Score, parse_fractions, render, write_curve


def point(fraction: float, network: float, baseline: float) -> Point:
    scores = (Score(value=value, low=value - 0.02, high=value + 0.01) for value in (network, baseline))
    return Point(fraction=fraction, samples=round(1168 * fraction), epochs=30, network=next(scores), baseline=next(scores))


CURVE = Curve(recipe="cnn", metric="accuracy", points=(point(0.1, 0.8, 0.85), point(0.3, 0.93, 0.91), point(1, 0.98, 0.95)))


@pytest.mark.parametrize("text", ["", "0.1,", "0,1", "0.5,1.5", "half", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected shares above 0 and at most 1"):
        parse_fractions(text)


def test_shares_are_read_with_and_without_blanks() -> None:
    assert parse_fractions("0.1, 0.3,1") == [0.1, 0.3, 1]


def test_the_chart_is_drawn_as_a_picture_and_as_lines_and_the_same_each_time(tmp_path: Path) -> None:
    numbers, picture, lines = write_curve(tmp_path, CURVE)
    assert json.loads(numbers.read_text())["points"][2]["network"]["value"] == 0.98
    assert is_drawn(picture)
    first = lines.read_bytes()
    assert b"<svg" in first
    write_curve(tmp_path, CURVE)
    assert lines.read_bytes() == first


def test_the_table_names_samples_and_both_models() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(render(CURVE))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "350 (30%)" in text and "0.9300 (0.9100 to 0.9400)" in text and "0.9100 (" in text


def test_large_numbers_are_not_broken_over_lines() -> None:
    curve = Curve(recipe="lstm", metric="mse", points=(point(0.1, 123456.8, 234567.85),))
    narrow(render(curve), "123456.8000 (123456.7800 to 123456.8100)", "234567.8500 (234567.8300 to 234567.8600)", "117 (10%)")
