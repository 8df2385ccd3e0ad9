"""A project that was moved or copied: MLflow's database names each artifact's place in full, and would keep to the old one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

ARTIFACTS = "mlartifacts"
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
)
"""Table and column of what names a place."""
BUSY_SECONDS = 30.0


def follow_move(root: Path) -> str | None:
    """Have the project's own mlflow.db name places below `root`, if it names those of another folder; return what was done.

    Only artifacts that came along are found here; an experiment whose place somebody chose elsewhere keeps it.
    """
    path = root / "mlflow.db"
    here = (root / ARTIFACTS).as_uri()
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
            former = {
                old
                for (place,) in connection.execute("select artifact_location from experiments")
                if (old := _elsewhere(place or "", root)) and old != here
            }
            for old in former:
                _rename(connection, old, here)
    except sqlite3.Error:
        # Damaged, or of another version of MLflow, which says so itself.
        return None
    return f"{path.name}: named artifacts in {', '.join(sorted(former))}; they are here now" if former else None


def _elsewhere(place: str, root: Path) -> str | None:
    """Return the folder of all artifacts in which an experiment's place lies, where that experiment's came along."""
    found = re.fullmatch(rf"(file://.*/{ARTIFACTS})/([^/]+)", place)
    return found[1] if found and (root / ARTIFACTS / found[2]).is_dir() else None


def _rename(connection: sqlite3.Connection, old: str, new: str) -> None:
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    for table, column in PLACES:
        if table in tables:
            connection.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )
