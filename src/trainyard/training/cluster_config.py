"""Blocks `cluster` and `tracking` of params.yaml: where training runs and is recorded. No stage depends on them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from trainyard.masking import mask
from trainyard.params import Count, Index, Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Where it runs. Changing it changes no result beyond the rounding of sums."""

    workers: Index | tuple[Count, Count] | Literal["auto"] = "auto"
    """auto: one a GPU, or two on a machine without one; of a cluster, all it has room for. 0: in this process, without Ray.

    [least, most]: as many as there is room for at the time, on a cluster whose nodes come and go.
    """
    cpus_per_worker: Count | Literal["auto"] = "auto"
    """Processors, and threads of torch, that each worker gets. auto: its share of this machine's; on a cluster 1."""
    address: str = "local"
    """local: a private Ray for this run. Otherwise a Ray cluster's address; RAY_ADDRESS goes before it."""
    submit_address: str | None = None
    """A cluster's dashboard, http://head:8265, to which `trainyard submit` sends jobs from outside."""
    insecure: bool = False
    """Use a cluster on a network without a token, where whoever reaches it can run programs on it."""
    storage: str | None = None
    """Where checkpoints, and data for nodes that do not see the project's folder, go: a path that all nodes share, file://,
    s3://, gs://, or anything else that pyarrow or fsspec opens. None: the project's scratch folder."""
    checkpoint_seconds: Positive | None = 60.0
    """Between two checkpoints within an epoch; there is one at each epoch's end in any case. None: any number."""
    checkpoint_steps: Count | None = None
    """Optimizer steps a multiple of which is followed by a checkpoint. None: none."""
    data_cache_gigabytes: Positive = 50.0
    """Most that each node keeps of packed data that it had to fetch from the storage."""
    max_restarts: Index = 3
    """How often lost workers are replaced before the run fails."""
    timeout_seconds: Positive = 120.0
    """How long a worker waits for the others before it counts them as lost."""
    stop_seconds: Positive = 7.0
    """After Ctrl-C, how long the workers may take to save before they are ended; more for large states on slow stores."""
    lost_node_seconds: Positive = 600.0
    """How long a training waits for lost nodes to come back, once there is room for fewer than its least workers."""

    def __post_init__(self) -> None:
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            least, most = self.workers
            raise ValueError(
                f"workers: [{least}, {most}] asks for at least {least} and at most {most}; write [{most}, {least}]"
            )

    @property
    def threads(self) -> int:
        """Processors of each worker; 1 for `auto`, before it is known how many workers share a machine."""
        return 1 if self.cpus_per_worker == "auto" else self.cpus_per_worker

    @property
    def least(self) -> int:
        """Fewest workers that may train; 1 for `auto`."""
        return self.workers[0] if isinstance(self.workers, tuple) else 1 if self.workers == "auto" else self.workers

    @property
    def most(self) -> int:
        """Most workers that may train; for `auto` that is for the machine or the cluster to say."""
        return self.workers[1] if isinstance(self.workers, tuple) else 1 if self.workers == "auto" else self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingConfig:
    """Where runs are recorded."""

    uri: str | None = None
    """MLflow tracking server, http://host:port, or a file, sqlite:///runs.db. None: mlflow.db beside params.yaml.
    MLFLOW_TRACKING_URI goes before it."""
    experiment: str | None = None
    """None: one experiment a recipe, under its name."""
    system_metrics: bool = True
    """Record processor, memory, disk and network use while training."""

    def __post_init__(self) -> None:
        """Refuse an address at which MLflow could keep no runs."""
        if self.uri and (problem := uri_problem(self.uri)):
            raise ValueError(f"uri: {problem}")


SQLITE = "sqlite:///"
"""How the address of a sqlite file begins; its name follows, or a fourth slash and its whole path."""
DATABASES = ("postgresql", "mysql", "mssql")
FOLDERS = "MLFLOW_ALLOW_FILE_STORE"
"""Variable of the environment with which MLflow still keeps runs in a folder of files."""
EXAMPLES = "expected http://host:port of a server, or sqlite:///runs.db for a file of the project"


def uri_problem(uri: str) -> str:
    """Return why MLflow could keep no runs at an address, whatever listens there; nothing where it could."""
    try:
        problem = _form_problem(uri)
    except ValueError:
        problem = f"its host or its port cannot be read (a / in a password is written %2F); {EXAMPLES}"
    # Such a password ends no host for `urlsplit`: all before the last @ is left out.
    return problem and f"found {mask(re.sub('://.*@', '://', uri))!r}: {problem}"


def _form_problem(uri: str) -> str:
    if re.search(r"\s", uri):
        return f"there is a blank in it; {EXAMPLES}"
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        return f"it does not say how to talk to that host; write http://{uri}"
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind in ("http", "https"):
        return "" if parts.hostname and parts.port != 0 else f"it names no host, or no port; {EXAMPLES}"
    if parts.scheme == "sqlite":
        file = uri.removeprefix(SQLITE).partition("?")[0]
        if not uri.startswith(SQLITE):
            return f"a file's address has three slashes and its name, or four and its whole path; {EXAMPLES}"
        return (
            ""
            if file.strip("/") and file != ":memory:"
            else f"it names no file, so runs would end with the process; {EXAMPLES}"
        )
    if kind in DATABASES:
        # Without a host it is this machine's own, by its socket.
        return (
            ""
            if uri.startswith(f"{parts.scheme}://") and parts.port != 0
            else f"it lacks its //; expected {kind}://user@host:port/database"
        )
    if uri.startswith(("databricks", "uc:")) or kind == "sqlite":
        return ""
    if kind in ("", "file"):
        if os.environ.get(FOLDERS, "").lower() in ("true", "1"):
            return ""
        return f"is a folder, in which MLflow keeps no new runs; write sqlite:///runs.db, or set {FOLDERS}=true"
    from importlib.metadata import entry_points

    known = {found.name for found in entry_points(group="mlflow.tracking_store")}
    return "" if kind in known else f"MLflow knows no addresses with {kind}:; {EXAMPLES}"
