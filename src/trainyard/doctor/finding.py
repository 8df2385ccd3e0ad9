"""One thing that was looked at, and what there is to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]
MACHINE, SERVICE, SECURITY = 3, 4, 5
"""Exit codes of problems, as in errors.py."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report."""

    about: str
    status: Status
    found: str
    fix: str = ""
    code: int = 0
    """Exit code, of a problem."""


def ok(about: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(about, "ok", found)


def warning(about: str, found: str, fix: str) -> Finding:
    """Return a finding that may disturb a training later."""
    return Finding(about, "warning", found, fix)


def problem(about: str, found: str, fix: str, code: int) -> Finding:
    """Return a finding that a training would fail on, or that leaves something open."""
    return Finding(about, "problem", found, fix, code)
