"""Runs read back from a tracking store, for commands that ask where something comes from. Imports mlflow: seconds."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import InputError, ServiceError
from trainyard.masking import headline_of
from trainyard.tracking import limits
from trainyard.tracking.address import database_file, without_password
from trainyard.tracking.schema import check_schema

# Read by MLflow when it is imported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(limits.REQUEST_SECONDS))
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

MOST = 1000
"""Runs that are looked through."""
NAMED_AT_MOST = 5
"""Runs of the same name that a message lists."""
NAMED_BY = ("tags.`trainyard.run_key`", "tags.`trainyard.fingerprint`", "attributes.run_name")
"""What else than its id a run is called by: first the narrowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run as its store has it."""

    run_id: str
    name: str
    status: str
    began: int | None
    """Milliseconds since 1970."""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of each."""


def runs_called(client: MlflowClient, name: str) -> list[Run]:
    """Return the runs with an id, a key of ours, a fingerprint or a name, the newest first; deleted ones have none.

    Raises:
        MlflowException: the store does not answer.
    """
    if re.fullmatch("[0-9a-f]{32}", name):
        try:
            run = client.get_run(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        else:
            return [run] if run.info.lifecycle_stage == "active" else []
    if "'" in name:
        return []
    experiments = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
    for attribute in NAMED_BY if experiments else ():
        found = client.search_runs(
            experiments, f"{attribute} = '{name}'", max_results=MOST, order_by=["attributes.start_time DESC"]
        )
        if found:
            return list(found)
    return []


def several(name: str, found: Sequence[Run]) -> str:
    """Return what is said where a name stands for several runs, the newest first: each with what tells it apart."""
    lines = [f"has {len(found)} runs called {name}; name one by its id:"]
    for run in found[:NAMED_AT_MOST]:
        lines.append(f"  {run.info.run_id}  {_when(run.info.start_time)}  {run.info.status}  {_kind(run)}")
    if len(found) > NAMED_AT_MOST:
        lines.append(f"  and {len(found) - NAMED_AT_MOST} older ones")
    return "\n".join(lines)


class Lookup:
    """One tracking store, read only."""

    def __init__(self, uri: str) -> None:
        """Open a store.

        Raises:
            InputError: it is a file that is not there.
            ServiceError: its tables are of another version of MLflow.
        """
        path = database_file(uri)
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no run was recorded there yet; `dvc repro` trains and records")
        check_schema(uri)
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.uri = uri
        self.place = without_password(uri)
        self._client = MlflowClient(uri)

    def run(self, named: str) -> Recorded | None:
        """Return the one run with an id, a key of ours, a fingerprint or a name; None where there is none.

        Raises:
            InputError: there are several.
            ServiceError: the store does not answer.
        """
        with self._asked():
            found = runs_called(self._client, named)
        if len(found) > 1:
            raise InputError(f"{named}: MLflow at {self.place} {several(named, found)}")
        return _recorded(found[0]) if found else None

    def tagged(self, tag: str, value: str) -> list[Recorded]:
        """Return the runs with a tag, the newest first.

        Raises:
            ServiceError: the store does not answer.
        """
        if "'" in value:
            return []
        with self._asked():
            experiments = [found.experiment_id for found in self._client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
            if not experiments:
                return []
            runs = self._client.search_runs(
                experiments, f"tags.`{tag}` = '{value}'", max_results=MOST, order_by=["attributes.start_time DESC"]
            )
        return [_recorded(run) for run in runs]

    def file(self, run_id: str, name: str) -> bytes | None:
        """Return a file of a run, None where it has none of that name.

        Raises:
            ServiceError: the store does not answer.
        """
        folder, _, _ = name.rpartition("/")
        with self._asked(), tempfile.TemporaryDirectory(prefix="trainyard-") as place:
            if name not in {entry.path for entry in self._client.list_artifacts(run_id, folder or None)}:
                return None
            return Path(self._client.download_artifacts(run_id, name, place)).read_bytes()

    def curve(self, run_id: str, metric: str) -> dict[int, float]:
        """Return a metric by its steps.

        Raises:
            ServiceError: the store does not answer.
        """
        with self._asked():
            return {point.step: point.value for point in self._client.get_metric_history(run_id, metric)}

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (ServiceError, InputError):
            raise
        except Exception as error:  # stores raise what their libraries raise
            raise ServiceError(
                f"MLflow at {self.place}: {headline_of(error)}; start it, or see that it can be reached"
            ) from error


def _when(began: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((began or 0) / 1000))


def _kind(run: Run) -> str:
    """Return a run's name, and the study that it belongs to, if it does."""
    study = run.data.tags.get("trainyard.study")
    return f"{run.info.run_name or ''}" + (f" ({study})" if study else "")


def _recorded(run: Run) -> Recorded:
    return Recorded(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        began=run.info.start_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
