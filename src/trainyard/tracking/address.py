"""Where runs are recorded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trainyard.errors import InputError
from trainyard.masking import mask
from trainyard.training.cluster_config import SQLITE, TrackingConfig, uri_problem

VARIABLE = "MLFLOW_TRACKING_URI"
LONGEST = 60
"""Characters of the name of a folder, of which each may take four of the 255 bytes that file systems allow."""


def tracking_uri(root: Path, config: TrackingConfig) -> str:
    """Return where runs go: MLFLOW_TRACKING_URI, else `tracking.uri`, else a sqlite file in the project.

    A file that is named without its folder is the project's, also where a stage runs in a copy of it.

    Raises:
        InputError: MLflow could keep no runs at the address in the environment.
    """
    given = os.environ.get(VARIABLE)
    if given and (problem := uri_problem(given)):
        raise InputError(f"{VARIABLE}: {problem}")
    uri = given or config.uri or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{root / uri.removeprefix(SQLITE)}"
    return uri


def database_file(uri: str) -> Path | None:
    """Return the sqlite file in which a store keeps its runs; None where it is another kind of store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def artifact_place(root: Path, uri: str, experiment: str) -> str | None:
    """Return where an experiment's files go; None where a server, or another database, knows that itself.

    Without a stated place, a sqlite store puts artifacts under whatever the current folder is.
    """
    if not uri.startswith("sqlite:"):
        return None
    # An experiment may be called what a folder within the project must not be: `../x`, `/x`, or longer than file systems take.
    folder = re.sub(r"[^\w .-]+", "_", experiment)[:LONGEST].strip(" .")
    return (root / "mlartifacts" / (folder or "experiment")).as_uri()


def without_password(text: str) -> str:
    """Return a text in which no address names a user or a password, nor a secret elsewhere."""
    return mask(re.sub(r"://[^/\s]*@", "://", text))
