"""Tables in Parquet files, read by pyarrow: plain types alone, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainyard.data.table_form import BLOCK_ROWS, Block, Findings, Number, OpenTable
from trainyard.errors import MachineError, first_line

EXTENSION = b"ARROW:extension:name"


def open_parquet(path: Path, found: Findings) -> OpenTable | None:
    """Return a file's columns, or None after adding why they cannot be told.

    Raises:
        MachineError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MachineError(f"{found.name}: Parquet needs pyarrow; run: pip install pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        found.add("not-parquet", f"cannot be read as Parquet ({first_line(error)})", "write the file again")
        return None

    def blocks(names: Sequence[str], texts: Collection[str]) -> Iterator[Block]:
        return _blocks(path, schema, names, frozenset(texts), found)

    silent = Findings(found.name, [])
    return OpenTable(
        name=found.name,
        found=found,
        columns=tuple(schema.names),
        about=f"{rows:,} rows of Parquet",
        blocks=blocks,
        not_plain=frozenset(field.name for field in schema if not _check_type(field, False, silent)),
    )


def _blocks(path: Path, schema: Any, names: Sequence[str], texts: frozenset[str], found: Findings) -> Iterator[Block]:
    import pyarrow as pa
    from pyarrow import parquet

    if not all([_check_type(schema.field(name), name in texts, found) for name in names]):
        return
    line = 1
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=list(dict.fromkeys(names)), use_threads=False):
                cells = {name: _cells(batch.column(name)) for name in names}
                yield Block(cells=cells, lines=list(range(line, line + batch.num_rows)))
                line += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        found.add("not-parquet", f"cannot be read after row {line - 1:,} ({first_line(error)})", "write the file again")


def _check_type(field: Any, text: bool, found: Findings) -> bool:
    """Whether a column holds plain values; adds what is wrong where it does not."""
    from pyarrow import types

    metadata = field.metadata or {}
    if isinstance(field.type, _extension()) or EXTENSION in metadata:
        kind = metadata.get(EXTENSION, str(field.type).encode()).decode("utf-8", "replace")
        found.add(
            "extension-type", f"column {field.name!r} is of the own type {kind}", "store plain values", severity="refused"
        )
        return False
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_plain = (
        is_text
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_timestamp(kind)
        or types.is_date(kind)
    )
    if is_text or (is_plain and not text):
        return True
    found.add("column-type", f"column {field.name!r} is {field.type}", f"expected {'texts' if text else 'texts or numbers'}")
    return False


def _extension() -> type:
    import pyarrow as pa

    kind: type = pa.BaseExtensionType
    return kind


def _cells(column: Any) -> list[str]:
    """Return a column as a reader of CSV would have found it; an empty cell where a value is missing."""
    from pyarrow import types

    values = column.to_pylist()
    if types.is_boolean(column.type):
        return ["" if value is None else "true" if value else "false" for value in values]
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return ["" if value is None else value.isoformat() for value in values]
    return ["" if value is None else value if type(value) is str else Number(value) for value in values]
