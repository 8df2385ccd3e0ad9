from __future__ import annotations

import io
import sys

import pytest

from trainyard.progress import say


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "cnn · train · класс"), ("latin-1", "cnn · train · ?????"), ("ascii", "cnn ? train ? ?????")],
)
def test_what_a_terminal_cannot_show_ends_nothing(monkeypatch: pytest.MonkeyPatch, encoding: str, expected: str) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    say("cnn", "train", "класс")
    assert terminal.buffer.getvalue().decode(encoding) == f"{expected}\n"  # type: ignore[attr-defined]
