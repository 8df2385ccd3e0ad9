"""The worker's record of a training, line by line, and its reader on the driver's side.

Only rank 0 writes: to the file that the driver reads, or, where there is a storage, on the way of `relay.py`. Nothing that
reads it (terminal, tracking server) can delay a step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol


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


class Spool(Protocol):
    """Where rank 0's records go."""

    def read(self) -> Iterator[Record]:
        """Yield all that earlier attempts have left there."""

    def append(self, record: Record) -> None:
        """Add one. OSError: the disk is full or broken."""

    def flush(self) -> None:
        """Return once all that was added is where the driver finds it. ServiceError: the store is away."""

    def close(self) -> None:
        """Add nothing more."""


class FileSpool:
    """A file that the driver reads as well."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[Record]:
        """Yield all records that are whole."""
        return Reader(self.path).read()

    def append(self, record: Record) -> None:
        """Add one; it is there as soon as this returns."""
        append(self.path, record)

    def flush(self) -> None:
        """Do nothing: what is added is there."""

    def close(self) -> None:
        """Do nothing: no file is held open."""


def append(path: Path, record: Record) -> None:
    """Add one line; what a killed attempt left of another stays a line of its own."""
    add_lines(path, [line_of(record)])


def add_lines(path: Path, lines: list[bytes]) -> None:
    """Add some lines, each with its end."""
    content = b"".join(lines)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(content)


def line_of(record: Record) -> bytes:
    """Return the line of a record."""
    return f"{json.dumps(asdict(record))}\n".encode()


def parse(line: bytes) -> Record | None:
    """Return the record of a line, None where it is torn."""
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError):
        return None


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a spool that have an end."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


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
                    if (record := parse(line)) is not None:
                        yield record
        except FileNotFoundError:
            return
