"""Files that are seen whole or not at all, and what tells one that was changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to the disk and put it in its place; what was there before stays until then.

    Raises:
        OSError: the disk is full, read-only or broken; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def own_sha256(values: Mapping[str, Any]) -> str:
    """Return the hash that plain values carry of themselves under the name sha256."""
    others = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def flush(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, last through a power cut.

    Raises:
        OSError: the disk is broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
