"""`trainyard sync`: what waits in this project goes to the tracking store."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainyard.errors import MachineError, ServiceError
from trainyard.tracking.address import artifact_place, tracking_uri, without_password
from trainyard.tracking.journal import Journal, journals, spool_folder
from trainyard.tracking.schema import check_schema
from trainyard.tracking.sender import start_poster
from trainyard.training.cluster_config import TrackingConfig


def sync(root: Path, config: TrackingConfig, *, here: bool = False) -> Iterator[str]:
    """Send all that waits, and yield a line for each journal that was sent.

    Args:
        root: of the project.
        config: where runs go.
        here: whether what waits for another store goes to this one, too: a server that has moved, or an address that was wrong.

    Raises:
        ServiceError: a store does not answer, or its tables are of another version; what it missed still waits.
        MachineError: the local database cannot be written.
    """
    uri = tracking_uri(root, config)
    check_schema(uri)
    if not journals(root):
        yield "nothing waits: MLflow has been told everything"
        return
    if here:
        yield from _readdress(root, uri)
    away: list[str] = []
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
                away.append(text)
            else:
                yield f"warning: MLflow does not take {text}" if event == "note" else f"sent: {text}"
        code = poster.wait()
    finally:
        # It ends with its stdin.
        stdin.close()
        poster.wait()
        stdout.close()
    if away:
        said = "\n".join(f"MLflow at {text}; {remedy(text, without_password(uri))}" for text in away)
        raise (MachineError if all(_is_local(text) for text in away) else ServiceError)(said)
    if code:
        raise MachineError(f"the process that sends ended with code {code}; see {spool_folder(root) / 'poster.log'}")
    if busy := journals(root):
        yield f"left to the stages that run now: {', '.join(path.name for path in busy)}"


def _readdress(root: Path, uri: str) -> Iterator[str]:
    """Have all journals whose stages are gone go to one store, and yield a line for each that went elsewhere."""
    place = without_password(uri)
    for folder in journals(root):
        journal = Journal.adopt(folder)
        lock = journal.sender_lock() if journal else None
        if journal is not None and lock is not None:
            opening = journal.opening()
            if opening and opening["uri"] != place:
                journal.readdress(uri=place, artifacts=artifact_place(root, uri, opening["experiment"]))
                yield f"was for {opening['uri']}: {journal.name}"
            lock.close()
        if journal is not None:
            journal.release()


def _is_local(away: str) -> bool:
    return away.startswith("sqlite:") or "No module named" in away


def remedy(away: str, place: str) -> str:
    """Return what to do about a store that did not take what waits, given where runs go now."""
    if " was deleted; " in away:
        return "then: trainyard sync"
    if "No module named" in away:
        return "install it, then: trainyard sync"
    if away.startswith("sqlite:"):
        if "locked" in away:
            todo = "end the program that holds it"
        elif "not a database" in away or "malformed" in away:
            todo = "bring back a copy of the file, or move it aside and begin another one"
        else:
            todo = "make room on that disk, or make the file writable"
    elif re.search(r"error code 40[13]\b|UNAUTHENTICATED|PERMISSION_DENIED", away):
        todo = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user who may write there"
    elif re.search(r"error code 404\b|not in a valid JSON", away):
        todo = "see whether an MLflow server is there, or name another address"
    else:
        todo = "start the server"
    other = "" if away.startswith(f"{place}: ") else f". Runs go to {place} now; to send this there, too: trainyard sync --here"
    return f"{todo}, then: trainyard sync. Nothing is lost{other}"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("a poster has both pipes")
    return pipe
