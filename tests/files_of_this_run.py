"""Files that many tests read, made by the first of them and gone when the last has run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_made: list[Path] = []


def folder_of_this_run(name: str) -> Path:
    """Return a new folder that is deleted when this process has run its tests."""
    folder = Path(tempfile.mkdtemp(prefix=f"trainyard-{name}-"))
    _made.append(folder)
    return folder


def delete_all() -> None:
    """Delete them. Processes that run tests side by side are ended without what `atexit` would do."""
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)
    _made.clear()
