"""Tables and paragraphs in terminals of several widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trainyard.terminal import Column, Rows, filled

COLUMNS = (
    Column(name="file"),
    Column(name=""),
    Column(name="why", below=True),
    Column(name="size", right=True),
)
ROWS = (
    ("a.npy", "goes", "nothing refers to it, and it is older than seven days", "12 kB"),
    ("b[old].npy", "stays", "dvc.lock refers to it", "3 kB"),
    ("c.npy", "stays", "", "?"),
)


def shown(width: int, rows: tuple[tuple[str, ...], ...] = ROWS) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(Rows(COLUMNS, rows))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_each_row_is_a_line_where_there_is_room() -> None:
    assert shown(100) == [
        "file                 why                                                      size",
        "─" * 82,
        "a.npy        goes    nothing refers to it, and it is older than seven days   12 kB",
        "b[old].npy   stays   dvc.lock refers to it                                    3 kB",
        "c.npy        stays                                                               ?",
    ]


def test_a_long_column_takes_several_lines_while_they_are_legible() -> None:
    lines = shown(72)
    assert lines[2:4] == [
        "a.npy        goes    nothing refers to it, and it is older than    12 kB",
        "                     seven days",
    ]


def test_without_room_what_is_long_stands_below_its_row_and_what_says_nothing_is_left_out() -> None:
    assert shown(40) == [
        "file                  size",
        "──────────────────────────",
        "a.npy        goes    12 kB",
        "  why  nothing refers to it, and it is",
        "       older than seven days",
        "b[old].npy   stays    3 kB",
        "  why  dvc.lock refers to it",
        "c.npy        stays       ?",
    ]


def test_without_room_for_that_either_everything_with_a_name_stands_below() -> None:
    assert shown(24) == [
        "file",
        "──────────────────",
        "a.npy        goes",
        "  why   nothing refers",
        "        to it, and it is",
        "        older than seven",
        "        days",
        "  size  12 kB",
        "b[old].npy   stays",
        "  why   dvc.lock refers",
        "        to it",
        "  size  3 kB",
        "c.npy        stays",
    ]


def test_a_terminal_that_shows_ascii_alone_is_given_nothing_else() -> None:
    for width in (40, 100):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        Console(width=width, file=out).print(Rows(COLUMNS, ROWS))
        out.seek(0)
        assert "----" in out.readlines()[1]


def test_a_row_may_end_early_and_a_cell_have_several_lines() -> None:
    rows = (("a.npy\nb.npy", "stays", "one\ntwo"), ("c.npy",))
    assert shown(60, rows)[2:] == ["a.npy   stays   one", "b.npy           two", "c.npy"]
    assert shown(24, rows)[2:] == ["a.npy b.npy   stays", "  why   one", "        two", "c.npy"]


def test_a_paragraph_fills_the_terminal_and_breaks_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Share of the train-time features (arXiv:1207.0580) that are set to 0"
    monkeypatch.setenv("COLUMNS", "60")
    assert filled(text, 6, first="  a: ").splitlines() == [
        "  a: Share of the train-time features (arXiv:1207.0580) that",
        "      are set to 0",
    ]
    monkeypatch.setenv("COLUMNS", "400")
    assert max(map(len, filled(text * 9, 2).splitlines())) <= 120
