"""How long each stage took on this machine the last time, and how much memory: what the next one is estimated from.

.trainyard/timings/<recipe>.json    by stage
"""

from __future__ import annotations

import json
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainyard.files import write_whole

FOLDER = Path(".trainyard", "timings")


def keep(root: Path, recipe: str, stage: str, seconds: float, around: float, facts: dict[str, Any]) -> None:
    """Note down what a stage took. A disk that is full loses it.

    Args:
        root: the project.
        recipe: whose stage it was.
        stage: prepare, train, evaluate, gate or export.
        seconds: of its work.
        around: of all else: interpreter, imports, Ray, tracking.
        facts: on which the time depends.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = {**read(root, recipe), stage: {"at": time.time(), "seconds": seconds, "around": around, "bytes": own, **facts}}
    with suppress(OSError):
        write_whole(root / FOLDER / f"{recipe}.json", f"{json.dumps(values, indent=2)}\n".encode())


def read(root: Path, recipe: str) -> dict[str, dict[str, Any]]:
    """Return what is known of a recipe's stages; nothing where nothing is, or where the file is none of ours."""
    try:
        values = json.loads((root / FOLDER / f"{recipe}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) and all(isinstance(entry, dict) for entry in values.values()) else {}
