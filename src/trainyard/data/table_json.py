"""Tables as lines of JSON objects (jsonlines.org), read strictly, a block of rows at a time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from trainyard.data.table_encoding import SHOWN_NAMES, add_bad_byte, find_encoding
from trainyard.data.table_form import BLOCK_ROWS, Block, Findings, Number, OpenTable, TableForm, shown
from trainyard.params import nearest

SAMPLE_ROWS = 200
MOSTLY = 0.95
"""Share of the first rows from which on the others are taken to lack a key by mistake."""
HALF = re.compile("[\ud800-\udfff]")


def open_json(path: Path, form: TableForm, found: Findings) -> OpenTable | None:
    """Return a file's keys as columns, or None after adding why they cannot be told."""
    encoding = find_encoding(path, form.encoding, found)
    if encoding is None:
        return None
    columns: Counter[str] = Counter()
    nested: set[str] = set()
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        silent = Findings(found.name, [])
        start = file.read(1)
        file.seek(0)
        first = [row for _, row in islice(_rows(file, silent), SAMPLE_ROWS)]
    for row in first:
        columns.update(row.keys())
        nested |= {name for name, value in row.items() if type(value) in (dict, list)}
    if start == "[":
        found.add("not-lines", "is one JSON list", "write one object a line, without brackets and commas around them")
        return None
    if not columns:
        rows = next((problem for problem in silent.problems), None)
        said = f"no line with a JSON object ({rows.found})" if rows else "is empty: it holds no rows"
        found.add("empty", said, 'write one object a line, such as {"text": "...", "label": "..."}')
        return None

    def blocks(names: Sequence[str], texts: Collection[str]) -> Iterator[Block]:
        return _blocks(path, encoding, names, frozenset(texts), found)

    about = f"an object a line, {SHOWN_NAMES.get(encoding, encoding)}"
    lacking = {name for name, count in columns.items() if count < MOSTLY * len(first)}
    not_plain = frozenset(nested | lacking)
    return OpenTable(name=found.name, found=found, columns=tuple(columns), about=about, blocks=blocks, not_plain=not_plain)


def _rows(file: TextIO, found: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number, strict=True
    )
    for number, line in enumerate(file, start=1):
        if not (text := line.strip()):
            continue
        try:
            row = decoder.decode(text)
        except RecursionError:
            found.row("broken-line", number, "brackets within brackets without end", "write one flat object a line")
            continue
        except ValueError as error:
            reason = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            found.row("broken-line", number, f"no JSON: {reason}", "write one whole object on each line")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            found.row("broken-line", number, f"{shown(text)} is no object", 'write {"text": "...", "label": "..."}')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {doubled!r} stands there twice")
    return row


def _blocks(path: Path, encoding: str, names: Sequence[str], texts: frozenset[str], found: Findings) -> Iterator[Block]:
    cells: dict[str, list[str]] = {name: [] for name in names}
    lines: list[int] = []
    with path.open(encoding=encoding, newline="") as file:
        try:
            for number, row in _rows(file, found):
                values = _values(row, names, texts, number, found)
                if values is None:
                    continue
                lines.append(number)
                for name, value in zip(names, values, strict=True):
                    cells[name].append(value)
                if len(lines) == BLOCK_ROWS:
                    yield Block(cells=cells, lines=lines)
                    cells, lines = {name: [] for name in names}, []
        except UnicodeDecodeError:
            add_bad_byte(path, encoding, found)
            return
    if lines:
        yield Block(cells=cells, lines=lines)


def _values(row: dict[str, Any], names: Sequence[str], texts: frozenset[str], line: int, found: Findings) -> list[str] | None:
    """Return a row's cells, or None after adding what is wrong with them. null is an empty cell."""
    values: list[str] = []
    good = True
    for name in names:
        value = row.get(name, row)
        kind = type(value)
        if kind is str:
            if not value.isascii() and (half := HALF.search(value)):
                place = f"key {name!r} holds half of a character (\\u{ord(half[0]):04x}) at {half.start():,}"
                found.row("half-character", line, place, "write both halves, or the character itself")
                good = False
            values.append(value)
        elif value is None:
            values.append("")
        elif value is row:
            near = nearest(name, row)
            found.row("missing-key", line, f"no key {name!r}", f"the row has {', '.join(row) or 'no keys'}{near}")
            good = False
        elif kind is dict or kind is list:
            what = "an object" if kind is dict else "a list"
            found.row("nested-value", line, f"key {name!r} holds {what}", "one text or number is expected")
            good = False
        elif name in texts:
            said = f"key {name!r} holds {str(value).lower() if kind is bool else value}, which is no text"
            found.row("not-a-text", line, said, "put it in quotes, or correct the row")
            good = False
        else:
            values.append(("true" if value else "false") if kind is bool else value)
    return values if good else None
