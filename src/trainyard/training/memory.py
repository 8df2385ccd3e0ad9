"""Whether the kernel ended processes because memory ran out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


def killed_for_memory() -> int:
    """Return how many processes the kernel has ended for lack of memory since this machine began, as far as it tells."""
    found = 0
    for path in COUNTERS:
        with suppress(OSError, ValueError):
            values = dict(line.split() for line in path.read_text().splitlines() if len(line.split()) == 2)
            found = max(found, int(values.get("oom_kill", 0)))
    return found
