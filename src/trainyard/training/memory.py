"""Memory that a process keeps between steps, and whether the kernel ended processes because memory ran out."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Numbers of glibc's mallopt(3)."""
LARGE = 2**30
"""Bytes from which on a block is still the kernel's own affair: a data set, no layer's features."""


def keep_freed() -> None:
    """Have this process keep what it frees, up to its peak, where its C library is glibc.

    Otherwise glibc gives the features of all layers back to the kernel after a step and asks for them again in the next one,
    thousands of pages that are cleared each time: a fifth of a small network's step. A thread is bound to its part of the
    memory when it first asks for some, so one part for all must be set before the training's thread starts.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, 2**31 - 1), (ARENA_MAX, 1)):
            mallopt(option, value)


def killed_for_memory() -> int:
    """Return how many processes the kernel has ended for lack of memory since this machine began, as far as it tells."""
    found = 0
    for path in COUNTERS:
        with suppress(OSError, ValueError):
            values = dict(line.split() for line in path.read_text().splitlines() if len(line.split()) == 2)
            found = max(found, int(values.get("oom_kill", 0)))
    return found
