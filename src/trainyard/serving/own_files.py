"""Files that predictions were written into: in a folder that is asked about, they are none of what to answer to."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

PARQUET = (".parquet", ".pq")
CSV = ".csv"
MASKS = "-masks"
"""What the name of a folder of masks has after that of its table."""
METADATA = "trainyard"
"""Key of what a table in Parquet says of the model that answered."""
BEGINNINGS = (["input", "label", "probability"], ["input", "mask", "confidence"], ["input", "series", "step", "time"])
"""First columns of predictions; the last one is `problem`."""
LONGEST_HEADER = 2**20


def is_own_table(path: Path) -> bool:
    """Whether a file is a table of predictions; one that cannot be read is none."""
    with suppress(OSError):
        if path.suffix.lower() in PARQUET:
            return _is_own_parquet(path)
        if path.suffix.lower() == CSV:
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                names = next(csv.reader([file.readline(LONGEST_HEADER)]), [])
            return names[-1:] == ["problem"] and any(names[: len(first)] == first for first in BEGINNINGS)
    return False


def is_own_masks(folder: Path) -> bool:
    """Whether a folder holds the masks of a table of predictions beside it."""
    stem = folder.name.removesuffix(MASKS)
    return stem != folder.name and any(is_own_table(folder.with_name(stem + suffix)) for suffix in (*PARQUET, CSV))


def _is_own_parquet(path: Path) -> bool:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return METADATA.encode() in (parquet.read_schema(path).metadata or {})
    except pa.ArrowException:
        return False
