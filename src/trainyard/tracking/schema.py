"""Whether this MLflow can use a local database, known in milliseconds and without importing MLflow."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from trainyard.errors import ServiceError
from trainyard.tracking.address import database_file


def check_schema(uri: str) -> None:
    """Refuse a database whose tables an older or a newer MLflow made.

    Raises:
        ServiceError: naming both versions of the tables, and the command.
    """
    path = database_file(uri)
    if path is None or not path.is_file():
        return
    found = _revision(path)
    known, newest = _revisions()
    if found is None or newest is None or found == newest:
        return
    mlflow = version("mlflow")
    headline = f"MLflow at {uri}: its tables have version {found}, MLflow {mlflow} expects {newest}"
    if found in known:
        raise ServiceError(f"{headline}; copy the file, then run: mlflow db upgrade {uri}, and the same command again")
    raise ServiceError(
        f"{headline}, and does not know the other: a newer MLflow made them; install that one (pip install --upgrade mlflow), "
        "or name another database in tracking.uri"
    )


def _revision(path: Path) -> str | None:
    """Return the version of a database's tables; None where it has none yet, or is busy."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as connection:
            row = connection.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def _revisions() -> tuple[set[str], str | None]:
    """Return the versions of tables that the installed MLflow knows, and its own."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        return set(), None
    known, followed = set(), set()
    for path in (Path(spec.origin).parent / "store" / "db_migrations" / "versions").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        known.update(re.findall(r"^revision(?:: str)? = [\"'](\w+)[\"']", text, re.MULTILINE))
        followed.update(re.findall(r"^down_revision(?:: .*)? = [\"'](\w+)[\"']", text, re.MULTILINE))
    newest = known - followed
    return known, newest.pop() if len(newest) == 1 else None
