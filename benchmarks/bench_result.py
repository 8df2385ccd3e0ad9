"""What the parts of `make bench` are asked for, and what they give."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How to measure."""

    folder: Path
    """For all that is made meanwhile."""
    mnist: Path | None
    """A folder with train/<digit>/ and test/<digit>/, if there is one."""
    cifar: Path | None
    """The same of CIFAR-10."""
    repeats: int
    quick: bool
    """With little data, to see that it runs."""
    processors: int
    gpu: bool
    compiles: bool
    """Whether there is a compiler for what torch generates."""

    def say(self, line: str) -> None:
        print(f"> {line}", file=sys.stderr, flush=True)


@dataclass
class Part:
    """What one part measured."""

    name: str
    unit: str
    sides: dict[str, list[float]]
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    """Why nothing was measured."""
    failed: str = ""
    seconds: float = 0.0
    """That the part took."""


class Skipped(Exception):
    """What this part needs is not here."""
