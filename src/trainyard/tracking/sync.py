"""`trainyard sync`: what waits in this project goes to the tracking store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainyard.errors import MachineError, ServiceError
from trainyard.tracking.address import tracking_uri
from trainyard.tracking.journal import journals, spool_folder
from trainyard.tracking.schema import check_schema
from trainyard.tracking.sender import start_poster
from trainyard.training.cluster_config import TrackingConfig


def sync(root: Path, config: TrackingConfig) -> Iterator[str]:
    """Send all that waits, and yield a line for each journal that was sent.

    Raises:
        ServiceError: a store does not answer, or its tables are of another version; what it missed still waits.
        MachineError: the local database cannot be written.
    """
    uri = tracking_uri(root, config)
    check_schema(uri)
    if not journals(root):
        yield "nothing waits: MLflow has been told everything"
        return
    away = ""
    poster = start_poster(root, stdout=subprocess.PIPE)
    stdin, stdout = _pipe(poster.stdin), _pipe(poster.stdout)
    try:
        stdin.write(json.dumps({"root": str(root), "uri": uri, "sync": True}) + "\n")
        stdin.flush()
        for line in stdout:
            if not line.startswith("{"):
                # A library's own words.
                continue
            (event, text), *_ = json.loads(line).items()
            if event == "away":
                away = text
            else:
                yield f"warning: MLflow does not take {text}" if event == "note" else f"sent: {text}"
        code = poster.wait()
    finally:
        # It ends with its stdin.
        stdin.close()
        poster.wait()
        stdout.close()
    if away.startswith("sqlite:"):
        raise MachineError(f"MLflow at {away}; make room on that disk, or make the file writable, then: trainyard sync")
    if away:
        raise ServiceError(f"MLflow at {away}; start the server, then: trainyard sync. Nothing is lost")
    if code:
        raise MachineError(f"the process that sends ended with code {code}; see {spool_folder(root) / 'poster.log'}")
    if busy := journals(root):
        yield f"left to the stages that run now: {', '.join(path.name for path in busy)}"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("a poster has both pipes")
    return pipe
