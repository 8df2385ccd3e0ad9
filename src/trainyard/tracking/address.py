"""Where runs are recorded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trainyard.masking import mask
from trainyard.training.cluster_config import TrackingConfig


def tracking_uri(root: Path, config: TrackingConfig) -> str:
    """Return where runs go: MLFLOW_TRACKING_URI, else `tracking.uri`, else a sqlite file in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.uri or f"sqlite:///{root / 'mlflow.db'}"


def without_password(text: str) -> str:
    """Return a text in which no address names a user or a password, nor a secret elsewhere."""
    return mask(re.sub(r"://[^/\s]*@", "://", text))
