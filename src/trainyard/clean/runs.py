"""Runs that a person has deleted in MLflow: the database marks them, and keeps them and their files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlparse

from trainyard.clean.things import Thing, size_of
from trainyard.errors import MachineError, last_line
from trainyard.tracking.address import database_file
from trainyard.tracking.schema import check_schema

QUERY = """
select r.run_uuid, r.name, r.deleted_time, r.artifact_uri,
       (select value from tags t where t.run_uuid = r.run_uuid and t.key = 'trainyard.run_key'),
       (select value from tags t where t.run_uuid = r.run_uuid and t.key = 'trainyard.fingerprint')
from runs r where r.lifecycle_stage = 'deleted' order by r.deleted_time
"""


def deleted_runs(root: Path, uri: str, champions: set[str], older: float) -> Iterator[Thing]:
    """Yield the deleted runs of a local store.

    Args:
        root: the project.
        uri: of the store; what is on a server is for its keeper to clean.
        champions: fingerprints.
        older: seconds since they were deleted.

    Raises:
        ServiceError: the tables are of another version of MLflow.
    """
    path = database_file(uri)
    if path is None or not path.is_file():
        return
    check_schema(uri)
    named = _named_by_models(root)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        rows = list(connection.execute(QUERY))
    for run_id, name, deleted, artifacts, key, fingerprint in rows:
        age = max(0.0, time.time() - (deleted or 0) / 1000)
        if {run_id, key} & named:
            stays = "a model in models/ is of it; restore it in MLflow, or train anew"
        elif fingerprint in champions:
            stays = "of a champion"
        else:
            stays = "deleted a short while ago" if age < older else ""
        yield Thing(
            kind="deleted runs",
            name=f"{name or ''} {run_id}".strip(),
            bytes=size_of(folder) if (folder := _folder(artifacts)) is not None else 0,
            age_seconds=age,
            why=stays or "deleted in MLflow",
            remove=None if stays else partial(_remove, uri, run_id, artifacts),
        )


def _named_by_models(root: Path) -> set[str]:
    """Return ids and keys of the runs that models of the project name."""
    found: set[str] = set()
    for path in (root / "models").glob("*/run.json"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found |= {str(values[name]) for name in ("run_id", "run_key") if values.get(name)}
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return found


def _folder(place: str | None) -> Path | None:
    """Return the folder of a run's files, None where it is on no disk of this machine."""
    parsed = urlparse(place or "")
    folder = Path(unquote(parsed.path))
    return folder if parsed.scheme in ("", "file") and folder.is_dir() else None


def _remove(uri: str, run_id: str, artifacts: str | None) -> bool:
    """Have MLflow delete a run for good, with its files; it takes none that was restored meanwhile.

    Raises:
        MachineError: it cannot.
    """
    folder = _folder(artifacts)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", run_id]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(
            f"mlflow gc: {last_line(Exception(done.stderr or done.stdout))}; the run is kept: mend that, then "
            "the same command again"
        )
    if folder is not None:
        with suppress(OSError):  # MLflow leaves the empty folder around it
            folder.parent.rmdir()
    return True
