"""What is wrong with raw data: found in one pass, said all together, before anything is trained."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import InputError, MachineError

SHOWN = 100
"""Problems that a message lists; the rest is counted, and no kind of them hides another."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)
FAILING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO)
Severity = Literal["warning", "error", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in the data."""

    rule: str
    """Short name of what was checked, such as `unreadable-image`; the same for all problems of a kind."""
    where: str
    """A path relative to the raw data, `file:row` (rows count as an editor counts lines), a class or a column."""
    found: str
    expected: str
    """What should stand there, and how to mend it."""
    severity: Severity = "error"
    """warning: it trains, and is in the card. error: it does not. refused: it is not even opened or followed."""
    sample: bool = False
    """It concerns one sample, which `on_bad_sample: skip` leaves out."""
    count: int = 1
    """Problems that it stands for, where one says how many more there are of a kind."""

    def __str__(self) -> str:
        return f"{printable(self.where)}: {printable(self.found)}; {self.expected}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, which any JSON writer takes."""
        return {key: printable(value) if isinstance(value, str) else value for key, value in asdict(self).items()}


class DataError(InputError):
    """Raw data that cannot be used; exit code 2, or 5 where a file was refused for safety."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.problems = [problem for problem in problems if problem.severity != "warning"]
        if any(problem.severity == "refused" for problem in problems):
            self.exit_code = 5
        count = total(self.problems)
        lines = [f"{printable(source)}: {count:,} problem{'s' if count != 1 else ''}"]
        super().__init__("\n".join([*lines, *(f"  {line}" for line in listed(self.problems))]))


def total(problems: Iterable[Problem]) -> int:
    """Return how many problems there are, those that were only counted among them."""
    return sum(problem.count for problem in problems)


def listed(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each problem; of many, the first ones of each kind, and how many more there are."""
    kinds = Counter(problem.rule for problem in problems)
    of_each = SHOWN // max(1, len(kinds)) if len(problems) > SHOWN else SHOWN
    room, shown = dict.fromkeys(kinds, max(1, of_each)), []
    for problem in problems:
        if room[problem.rule]:
            room[problem.rule] -= 1
            shown.append(problem)
    more = total(problems) - total(shown)
    return [*map(str, shown), *([f"and {more:,} more"] if more else [])]


def settle(
    source: str, problems: Iterable[Problem], on_bad_sample: Literal["stop", "skip"]
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Return (warnings, samples to skip), once nothing stands against going on.

    Raises:
        DataError: listing all that must be mended first.
    """
    found = list(problems)
    skipped = tuple(p for p in found if on_bad_sample == "skip" and p.sample and p.severity == "error")
    warnings = tuple(p for p in found if p.severity == "warning")
    if len(skipped) + len(warnings) < len(found):
        raise DataError(source, found)
    return warnings, skipped


def printable(text: str) -> str:
    """Return a text that any terminal and any log takes: no control characters, no halves of characters."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode() for sign in text)


def disk_error(error: OSError, raw: Path, written: Path, way_out: str) -> MachineError | None:
    """Return what the system's refusal to read or to write means to the user; None where it is none of a disk.

    Args:
        error: of the system.
        raw: the data that were read.
        written: the folder that was written.
        way_out: what to do where that cannot be written.
    """
    if error.errno not in (*FULL, *FAILING, errno.ENODEV):
        return None
    said, again = error.strerror, "and run the same command again"
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno == errno.EACCES and Path(named).is_relative_to(raw):
        return MachineError(f"{printable(named)}: cannot be read ({said}); make it readable for this user, {again}")
    if error.errno == errno.ENODEV:
        return MachineError(
            f"{printable(str(raw))} or {written}: is on a file system that maps no files into memory ({said}); "
            "put it on another disk"
        )
    if error.errno in FAILING:
        return MachineError(f"{printable(str(raw))} or {written}: its disk or network fails ({said}); look after it, {again}")
    there = next(folder for folder in (written.absolute(), *written.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return MachineError(f"{written}: cannot be written ({said}; {free:,} bytes free); {way_out}, {again}")
