"""Tables as lines of fields (RFC 4180, and what is called CSV besides), read strictly, a block of rows at a time."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

from trainyard.data.table_encoding import SHOWN_NAMES, add_bad_byte, find_encoding
from trainyard.data.table_form import BLOCK_ROWS, KEPT, Block, Findings, OpenTable, TableForm, shown

DELIMITERS = {",": ",", ";": ";", "tab": "\t", "|": "|"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST_FIELD = 64 * 2**20
"""Characters; what is longer is taken for a quote that was never closed."""
EXCEL = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
"""First line by which Excel is told the delimiter (and which it takes away when it opens the file)."""
SAMPLE_CHARACTERS = 2**18
SAMPLE_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How the file is to be cut."""

    encoding: str
    delimiter: str
    quotes: bool
    header: bool
    """Its first row holds the names of the columns."""
    width: int
    """Fields of a row."""
    trailing: bool = False
    """Each row has one empty field more."""
    above: int = 0
    """Lines above the first row."""


def open_csv(path: Path, form: TableForm, wanted: Sequence[str], found: Findings) -> OpenTable | None:
    """Return a file's columns, or None after adding why they cannot be told.

    Args:
        path: of the file.
        form: what the file does not say of itself.
        wanted: columns that will be asked for, which help to tell the delimiter.
        found: what is wrong is added to it.
    """
    encoding = find_encoding(path, form.encoding, found)
    if encoding is None:
        return None
    # It stands for the whole process; what was set by others is left where it is higher.
    csv.field_size_limit(max(LONGEST_FIELD, csv.field_size_limit()))
    sample = _sample(path, encoding)
    if "\0" in (line := io.StringIO(sample, newline="").readline()):
        found.add("nul-byte", *_nul_bytes(line, found), at=1)
        return None
    said = EXCEL.fullmatch(line.rstrip("\r\n"))
    sample = sample[len(line) :] if said else sample
    delimiter = said[1] if said else _delimiter(sample, form, wanted)
    header, above = form.columns is None, 1 if said else 0
    layout = _Layout(encoding=encoding, delimiter=delimiter, quotes=form.quotes, header=header, width=0, above=above)
    first = _first_row(path, layout, found)
    if first is None:
        found.add("empty", "is empty: it holds no rows", "write the names of the columns, and rows below them")
        return None
    columns = tuple(name.strip() for name in first) if form.columns is None else form.columns
    if form.columns is not None and tuple(name.strip() for name in first) == form.columns:
        found.add("header", "its first row repeats data.columns", "remove data.columns: the file has a header")
        return None
    rows = _cut(sample, delimiter, form.quotes)[0 if form.columns else 1 :]
    trailing = bool(rows) and all(len(row) == len(columns) + 1 and not row[-1] for row in rows)
    layout = replace(layout, width=len(columns), trailing=trailing)
    if trailing or (columns[-1] == "" and rows and not any(row[-1] for row in rows)):
        expected = "it is passed over; write none after the last field"
        found.add("trailing-delimiter", "a delimiter at the end of each row", expected, severity="warning")

    def blocks(names: Sequence[str], texts: Collection[str]) -> Iterator[Block]:
        return _blocks(path, layout, {name: columns.index(name) for name in names}, found)

    about = f"fields between {NAMES[delimiter]}, {SHOWN_NAMES.get(encoding, encoding)}"
    return OpenTable(name=found.name, found=found, columns=columns, about=about, blocks=blocks)


def _sample(path: Path, encoding: str) -> str:
    """Return the beginning of a file, up to the end of a line where it is longer."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        text = file.read(SAMPLE_CHARACTERS)
    if len(text) < SAMPLE_CHARACTERS:
        return text
    end = max(text.rfind("\n"), text.rfind("\r"))
    return text[: end + 1] if end > 0 else text


def _cut(sample: str, delimiter: str, quotes: bool) -> list[list[str]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, quoting=quoting)
    # The last row may be cut within a quoted field.
    rows = [row for row in islice(reader, SAMPLE_ROWS + 1) if any(cell.strip() for cell in row)]
    return rows[:-1] if len(rows) > SAMPLE_ROWS or (len(rows) > 2 and len(sample) >= SAMPLE_CHARACTERS) else rows


def _delimiter(sample: str, form: TableForm, wanted: Sequence[str]) -> str:
    """Return the delimiter that was named, or that cuts the first rows best."""
    if form.delimiter != "auto":
        return DELIMITERS[form.delimiter]

    def fit(delimiter: str) -> tuple[bool, int, float, int]:
        rows = _cut(sample, delimiter, form.quotes)
        first = [cell.strip() for cell in rows[0]] if rows else []
        width = len(first) if form.columns is None else len(form.columns)
        alike = sum(len(row) == width for row in rows) / max(1, len(rows))
        return len(first) > 1, sum(name in first for name in wanted), alike, len(first)

    fits = {delimiter: fit(delimiter) for delimiter in DELIMITERS.values()}
    if fits[","] == max(fits.values()) and fits[","][0]:
        # As many commas as other signs may be those of numbers, and of names such as `power, kW`.
        return next(delimiter for delimiter in (";", "\t", "|", ",") if fits[delimiter] == fits[","])
    return max(fits, key=fits.__getitem__)


def _first_row(path: Path, layout: _Layout, found: Findings) -> list[str] | None:
    # What is wrong there is said when all rows are read.
    silent = Findings(found.name, [])
    with path.open(encoding=layout.encoding, errors="replace", newline="") as file:
        return next((row for _, row in _rows(file, layout, silent)), None)


def _rows(file: TextIO, layout: _Layout, found: Findings) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that are not blank with the line on which each one begins; rows that cannot be cut are added to `found`."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
    unusable: set[int] = set()
    numbered = islice(_lines(file, unusable, found), layout.above, None)
    reader = csv.reader(numbered, delimiter=layout.delimiter, quoting=quoting, strict=True)
    line = layout.above + 1
    while True:
        try:
            for row in reader:
                blank = not row or (len(row) == 1 and not row[0].strip())
                if not blank and (not unusable or unusable.isdisjoint(range(line, layout.above + reader.line_num + 1))):
                    yield line, row
                line = layout.above + reader.line_num + 1
            return
        except csv.Error as error:
            said, end = str(error), layout.above + reader.line_num
            if "unexpected end" in said or "field larger" in said:
                reason = "a quote that opens here is never closed"
            elif "expected after" in said:
                at = "" if end == line else f" on line {end}"
                reason = f"text follows the closing quote{at}"
            else:
                reason = said
            expected = f'close each quote, and write "" for one within a field{found.advice.quotes}'
            found.row("unreadable-row", line, reason, expected)
            line = end + 1


def _lines(file: TextIO, unusable: set[int], found: Findings) -> Iterator[str]:
    """Yield the lines of a file; the numbers of those with NUL bytes are added to `unusable`."""
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            unusable.add(number)
            found.row("nul-byte", number, *_nul_bytes(line, found))
        yield line


def _nul_bytes(line: str, found: Findings) -> tuple[str, str]:
    count = line.count("\0")
    hint = f"; UTF-16 without its mark? {found.advice.unmarked}" if count > len(line) // 3 else ""
    return f"{count:,} NUL bytes", f"text has none: write the file again{hint}"


def _blocks(path: Path, layout: _Layout, places: dict[str, int], found: Findings) -> Iterator[Block]:
    """Yield the good rows; what is wrong with the others is added to `found` when the last one was read."""
    width = layout.width + layout.trailing
    ragged: Counter[int] = Counter()
    kept: list[tuple[int, int]] = []
    good, lines, rows = 0, [], []
    with path.open(encoding=layout.encoding, newline="") as file:
        numbered = _rows(file, layout, found)
        try:
            if layout.header:
                next(numbered)
            for line, row in numbered:
                if len(row) != width:
                    ragged[len(row)] += 1
                    if len(kept) < KEPT:
                        kept.append((line, len(row)))
                    continue
                lines.append(line)
                rows.append(row)
                if len(rows) == BLOCK_ROWS:
                    good += len(rows)
                    yield _block(places, rows, lines)
                    lines, rows = [], []
        except UnicodeDecodeError:
            add_bad_byte(path, layout.encoding, found)
            return
        ends = file.newlines
    if rows:
        yield _block(places, rows, lines)
    _add_ragged(good + len(rows), ragged, kept, layout, found)
    if isinstance(ends, tuple):
        names = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
        listed = " and ".join(names[end] for end in ends)
        found.add("mixed-line-ends", f"lines end with {listed}", "each one counts as an end", severity="warning")


def _block(places: dict[str, int], rows: list[list[str]], lines: list[int]) -> Block:
    return Block(cells={name: [row[place] for row in rows] for name, place in places.items()}, lines=lines)


def _add_ragged(good: int, ragged: Counter[int], kept: Iterable[tuple[int, int]], layout: _Layout, found: Findings) -> None:
    wanted = f"{'the header has' if layout.header else found.advice.columns} {layout.width}"
    if not good and len(ragged) == 1 and sum(ragged.values()) > 1:
        (width, count), *_ = ragged.items()
        more = "a name is missing in the header, or a delimiter stands at the end of each row"
        fewer = f"the header names too many, or {NAMES[layout.delimiter]} are not what stands between the fields"
        if not layout.header:
            more = found.advice.header
            fewer = f"{more}, or see that {NAMES[layout.delimiter]} stand between the fields"
        expected = f"{wanted}: {more if width > layout.width else fewer}"
        found.add("ragged-rows", f"each of the {count:,} rows has {width} fields", expected)
        return
    for line, width in kept:
        fields = f"{width} fields"
        found.row(
            "ragged-row", line, fields, f"{wanted}: mend the row, or put quotes around fields with {shown(layout.delimiter)}"
        )
    found.counts["ragged-row"] = sum(ragged.values())
