"""Tables that people open in a spreadsheet, as CSV in which no text runs as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from trainyard.files import write_whole

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First signs of what a spreadsheet takes for a formula, full-width ones included."""


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table whose cells are text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def text_cell(text: str) -> str:
    """Return a text as no spreadsheet runs it: after a quote mark where its first sign begins a formula (OWASP, CSV injection).

    Numbers stay as they are.
    """
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
