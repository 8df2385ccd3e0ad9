"""The worker's record of a training, appended line by line to a local file, and its reader on the driver's side.

Only rank 0 writes. Nothing that reads it (terminal, tracking server) can delay a step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Some metrics at one moment."""

    kind: Literal["progress", "epoch"]
    """progress: within an epoch, for the terminal and curves by optimizer step. epoch: at its end."""
    epoch: int
    """0-based."""
    step: int
    """Optimizer steps done."""
    seconds: float
    """Since training began, earlier attempts included."""
    left_seconds: float
    """Estimated until the last epoch ends."""
    values: dict[str, float]
    resumed: bool = False
    """The first record after a restart."""
    note: str = ""
    """Something to tell the user, instead of values."""
    at: float = field(default_factory=time.time, compare=False)
    """Seconds since 1970 when it was made, which is what a tracking store is told, whenever it is sent."""


def append(path: Path, record: Record) -> None:
    """Add one line; what a killed attempt left of another stays a line of its own."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(f"{json.dumps(asdict(record))}\n".encode())


class Reader:
    """Yields each whole record of a growing spool once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def read(self) -> Iterator[Record]:
        """Yield the records that were added since the last call; a torn line waits for its end, or is passed over."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self.position += len(line)
                    try:
                        record = Record(**json.loads(line))
                    except (ValueError, TypeError):
                        continue
                    yield record
        except FileNotFoundError:
            return
