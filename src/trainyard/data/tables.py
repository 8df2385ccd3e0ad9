"""One strict reader for tables in CSV, TSV, JSON lines and Parquet: streaming, and all that is wrong in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from trainyard.data.links import leads_out
from trainyard.data.problems import Problem, Severity
from trainyard.data.table_csv import open_csv
from trainyard.data.table_form import Block, Findings, OpenTable, TableForm
from trainyard.data.table_json import open_json
from trainyard.data.table_parquet import open_parquet
from trainyard.params import nearest

CSV = (".csv", ".tsv", ".tab", ".psv", ".txt")
JSON = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
SUFFIXES = (*CSV, *JSON, *PARQUET)
OTHERS = {
    ".json": "one object a line is expected: write it as .jsonl",
    ".xlsx": "save the sheet as CSV in UTF-8",
    ".xls": "save the sheet as CSV in UTF-8",
    ".gz": "unpack it",
    ".zip": "unpack it",
    ".pkl": "a pickle can run code and is never opened: write it as Parquet",
    ".pickle": "a pickle can run code and is never opened: write it as Parquet",
}


def open_table(root: Path, name: str, form: TableForm, problems: list[Problem], wanted: Sequence[str] = ()) -> OpenTable | None:
    """Return a file's columns, or None after adding why they cannot be told.

    Args:
        root: folder of the raw data; what leads out of it, but for DVC's cache, is not opened.
        name: path of the file in there, as messages say it.
        form: what the file does not say of itself.
        problems: what is wrong is added to it.
        wanted: columns that will be asked for, which help to tell a delimiter.
    """
    path, found = root / name, Findings(name, problems, form.advice)
    if leads_out(path.resolve(), root.resolve()):
        found.add("outside", "leads out of the folder of raw data", "copy the file into it", severity="refused")
        return None
    if not path.is_file():
        found.add("no-file", "no such file", f"put it into {root}, or correct data.path")
        return None
    suffix = path.suffix.lower()
    if suffix in CSV:
        return open_csv(path, form, wanted, found)
    if suffix in JSON:
        return open_json(path, form, found)
    if suffix in PARQUET:
        return open_parquet(path, found)
    severity: Severity = "refused" if suffix in (".pkl", ".pickle") else "error"
    expected = OTHERS.get(suffix, f"known are {', '.join(SUFFIXES)}")
    found.add("unknown-format", f"{suffix or 'a name without an ending'} is not read", expected, severity=severity)
    return None


def check_columns(table: OpenTable, wanted: Sequence[str]) -> bool:
    """Whether a table has each column once; adds those that are missing, with the nearest name, or doubled."""
    good, counts = True, Counter(table.columns)
    have = ", ".join(column or "(without a name)" for column in table.columns)
    hint = "" if any(counts[name] for name in wanted) else f"; a file without a header? {table.found.advice.header}"
    for name in dict.fromkeys(wanted):
        if counts[name] > 1:
            table.found.add("doubled-column", f"{counts[name]} columns of this name", "rename one", at=name)
        elif not counts[name]:
            expected = f"the file has {have}{nearest(name, table.columns)}{hint}"
            table.found.add("no-column", "no such column", expected, at=name)
        good = good and counts[name] == 1
    return good


def read_blocks(table: OpenTable, names: Sequence[str], texts: Collection[str] = ()) -> Iterator[Block]:
    """Yield the good rows of some columns; what is wrong with the others is in the table's findings after the last block.

    Args:
        table: that has these columns.
        names: of the columns.
        texts: columns that must hold texts, where the format tells them from numbers.
    """
    rows, before = 0, len(table.found.problems)
    for block in table.blocks(names, texts):
        rows += len(block.lines)
        yield block
    table.found.close()
    if not rows and all(problem.severity == "warning" for problem in table.found.problems[before:]):
        table.found.add("empty", "holds no rows under its header", "add rows")
