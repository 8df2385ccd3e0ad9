"""What the submitting side tells a job, and how the job is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "TRAINYARD_JOB"
"""Environment variable that holds a JobSpec as JSON. It holds no secrets: Ray shows it to whoever may see jobs."""
STOP_SECONDS = 30
"""Between the notice that a job is to end and its death: enough for a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One attempt at a piece of work."""

    identity: str
    """Of the work: the same for every attempt."""
    attempt: int
    """1, 2, ..."""
    project: str
    """Folder on the head for caches and checkpoints, shared by all jobs of the project."""
    targets: tuple[str, ...]
    stages: tuple[str, ...]
    """Names in dvc.yaml whose results are handed back."""
    kept: tuple[str, ...]
    """Outputs that come back by content, because DVC does not keep them."""
    data: tuple[str, ...]
    """Paths of data that must be there before anything runs."""
    remote: dict[str, str] | None
    """DVC's remote: `name`, `url` and where else it is. None with `shared`."""
    shared: str | None
    """Folder on the cluster in which the project, or its DVC cache, is visible."""
    commit: str | None
    """That the submitter has checked out."""
    dirty: bool
    """Whether files differ from it."""
    masked: tuple[str, ...] = ()
    """Names of environment variables whose values are never shown."""

    @property
    def id(self) -> str:
        """The submission id, unique on the server."""
        return job_id(self.identity, self.attempt)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> JobSpec:
        """Return the spec of the job that this process is.

        Raises:
            KeyError: this process is no job of ours.
        """
        values: dict[str, Any] = json.loads(environment[VARIABLE])
        lists = ("targets", "stages", "kept", "data", "masked")
        values |= {name: tuple(values[name]) for name in lists}
        return cls(**values)


def job_id(identity: str, attempt: int) -> str:
    """Return the submission id of an attempt."""
    return f"trainyard-{identity}-{attempt}"
