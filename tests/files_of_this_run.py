"""Files that many tests read, made by the first of them and gone when the last has run."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def folder_of_this_run(name: str) -> Path:
    """Return a new folder that is deleted when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"trainyard-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
