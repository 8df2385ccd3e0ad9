"""MLflow: how each kind of entry is told to a tracking store, so that telling it twice stores it once. Alone imports mlflow."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainyard.errors import IntegrityError
from trainyard.masking import headline_of
from trainyard.tracking import limits
from trainyard.tracking.address import database_file
from trainyard.tracking.appearance import NOTE_TAG, RENEWED
from trainyard.tracking.points import Known, Point, Stored

# Read by MLflow when it is imported.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(limits.REQUEST_RETRIES)
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(limits.REQUEST_SECONDS))
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

import mlflow.store.db.utils
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "NOT_IMPLEMENTED")
"""Answers that will be the same next time."""
KEY_TAG, FINGERPRINT_TAG, WHOLE_TAG = "trainyard.run_key", "trainyard.fingerprint", "trainyard.whole"
BATCH = {"params": 100, "tags": 100, "metrics": 1000}
"""What one request may hold."""
LENGTHS = {"params": 6000, "tags": 5000}
"""Characters that a value may have."""


class Away(Exception):
    """The store did not answer, or nobody knows what it did; the entry is to be told again."""

    doubtful = False
    """A server says so of what it will never take, but also of two requests that met."""


class Refused(Exception):
    """The store will never take it."""


class Deleted(Refused):
    """The run was deleted there: nothing more of it is taken until somebody restores it."""


class Lost(Refused):
    """The store knows nothing of the run any more, as one that came back empty."""


class Store:
    """One tracking store."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.known: dict[str, Known] = {}
        self._client: MlflowClient | None = None
        # What goes wrong is raised as well, and said once.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        mlflow.store.db.utils.MAX_RETRY_COUNT = 1

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client; the first use makes a local database.

        Raises:
            OSError: there is no room for it.
        """
        if self._client is None:
            _create_database(self.uri)
            self._client = MlflowClient(self.uri)
        return self._client

    def open(self, opening: Mapping[str, Any], at: int) -> tuple[str, list[str]]:
        """Return the run that an opening names, made if it is not there, and what the store will not take of it.

        Raises:
            Away, Refused: as they say. A lost answer leaves one run all the same.
        """
        with self._asked():
            experiment = self._experiment(opening["experiment"], opening["artifacts"], opening.get("experiment_tags", {}))
            found = self._find(experiment, opening)
            if found is not None:
                # Another journal has told of it, perhaps by this very process: what is stored is looked up anew.
                self.known.pop(found.info.run_id, None)
            run = found or self._create(experiment, opening, at)
            run_id = str(run.info.run_id)
            self._place_below(experiment, run, opening)
        if changed := _changed_params(run, opening):
            self.tags(run_id, changed)
        begun = run.data.tags.get(KEY_TAG) == opening["run_key"] and WHOLE_TAG not in run.data.tags
        return run_id, self._fill(run_id, opening) if begun else []

    def metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Store points that are not stored yet.

        Raises:
            Away, Refused: as they say.
        """
        known = self.known.setdefault(run_id, Known())
        try:
            with self._asked():
                points = self._missing(run_id, known, points)
            self._send(run_id, "metrics", [Metric(p.key, p.value, p.at, p.step) for p in points])
        except Away:
            self.doubt(run_id, {point.key for point in points})
            raise
        for point in points:
            # Those of curves come again with the same moment, which a store has once; there may be millions of them.
            if not (known.sure and point.once):
                known.metrics[point.key].add(point.step, point.at, point.value)

    def doubt(self, run_id: str, keys: set[str]) -> None:
        """Ask what is stored of some metrics before more is sent."""
        known = self.known.setdefault(run_id, Known())
        if known.sure:
            # Points of other metrics arrived as well, and were not noted down.
            known.metrics.clear()
        known.sure = False
        for key in keys:
            known.metrics.pop(key, None)

    def tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, which replaces older ones of the same names.

        Raises:
            Away, Refused: as they say.
        """
        self._batches(run_id, "tags", tags)

    def note(self, run_id: str, text: str) -> None:
        """Set a run's note, unless a person wrote another one.

        Raises:
            Away, Refused: as they say.
        """
        with self._asked():
            there = self.client.get_run(run_id).data.tags.get(NOTE_TAG)
            if there is None or RENEWED in there:
                self._tag(run_id, NOTE_TAG, text.replace("{run_id}", run_id))

    def artifact(self, run_id: str, path: Path, folder: str) -> None:
        """Upload a file, which replaces an older one of the same name.

        Raises:
            Away, Refused: as they say.
        """
        if not path.is_file():
            raise Refused(f"{path} is gone")
        with self._asked():
            self.client.log_artifact(run_id, str(path), folder)

    def status(self, run_id: str, opening: Mapping[str, Any], status: str, at: int, tags: Mapping[str, str]) -> None:
        """Say how a run stands, and why; at its end, remove twins that a lost answer made.

        What is told late, after another attempt has ended the run, changes nothing.

        Raises:
            Away, Refused: as they say.
        """
        with self._asked():
            run = self.client.get_run(run_id)
            if status != "FINISHED" and run.info.end_time is not None and at < run.info.end_time:
                return
            for key, value in tags.items():
                self._tag(run_id, key, str(value))
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
                return
            self.client.set_terminated(run_id, status, end_time=at)
            for twin in self._by_tag(run.info.experiment_id, KEY_TAG, opening["run_key"]):
                if twin.info.run_id != run_id:
                    self.client.delete_run(twin.info.run_id)

    def model(self, run_id: str, entry: Mapping[str, Any], folder: Path, mark: str) -> None:
        """Log a bundle as the run's model, and register it as a version of its name.

        Raises:
            Away, Refused: as they say.
        """
        from trainyard.tracking.onnx_model import log
        from trainyard.tracking.registry import register

        try:
            with self._asked():
                model_id = log(self.client, self.uri, run_id, entry["name"], folder, mark)
                register(self.client, entry["registered"], model_id, run_id, mark, entry["tags"])
        except (IntegrityError, KeyError) as error:
            raise Refused(f"{folder.name}: {error}") from error

    def require(self, run_id: str) -> None:
        """Say so where something was refused because its run is gone.

        Raises:
            Deleted, Lost, Away: as they say.
        """
        try:
            with self._asked():
                stage = self.client.get_run(run_id).info.lifecycle_stage
        except Refused as refused:
            raise Lost(f"run {run_id} is not there any more") from refused
        if stage != "active":
            raise Deleted(f"run {run_id} was deleted; to have it back: mlflow runs restore --run-id {run_id}")

    def champion(self, name: str, fingerprint: str) -> None:
        """Have the registered version with a fingerprint be its name's champion; where there is none, nothing changes.

        Raises:
            Away, Refused: as they say.
        """
        from trainyard.tracking.registry import crown

        with self._asked():
            crown(self.client, name, fingerprint)

    def _experiment(self, name: str, artifacts: str | None, tags: Mapping[str, str]) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage != "active":
            command = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            raise MlflowException(f"experiment {name} was deleted; to have it back: {command}; or set tracking.experiment")
        if experiment is None:
            try:
                return str(self.client.create_experiment(name, artifact_location=artifacts, tags=dict(tags)))
            except MlflowException as error:
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise error
        # What is there already may be a person's.
        for key in tags.keys() - experiment.tags.keys():
            self.client.set_experiment_tag(experiment.experiment_id, key, tags[key])
        return str(experiment.experiment_id)

    def _find(self, experiment: str, opening: Mapping[str, Any]) -> Run | None:
        if opening["run_id"]:
            try:
                run = self.client.get_run(opening["run_id"])
                if run.info.lifecycle_stage == "active":
                    return run
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        found = self._by_tag(experiment, KEY_TAG, opening["run_key"])
        if not found and opening["restored"]:
            found = self._by_tag(experiment, FINGERPRINT_TAG, opening["fingerprint"])[:1]
        # The oldest of twins, so that everyone takes the same.
        return found[-1] if found else None

    def _place_below(self, experiment: str, run: Run, opening: Mapping[str, Any]) -> None:
        """Show a run below the one that it belongs to, once that one is there."""
        if not (key := opening.get("parent")) or MLFLOW_PARENT_RUN_ID in run.data.tags:
            return
        if parents := self._by_tag(experiment, KEY_TAG, key):
            self._tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parents[-1].info.run_id)

    def _by_tag(self, experiment: str, tag: str, value: str) -> list[Run]:
        return list(self.client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=100))

    def _create(self, experiment: str, opening: Mapping[str, Any], at: int) -> Run:
        tags = {KEY_TAG: opening["run_key"], FINGERPRINT_TAG: opening["fingerprint"], **opening["tags"]}
        if opening["restored"]:
            tags["trainyard.restored"] = opening["run_id"] or opening["run_key"]
        short = {key: str(value)[: LENGTHS["tags"]] for key, value in tags.items()}
        run = self.client.create_run(
            experiment, start_time=at, tags=short, run_name=opening.get("name", opening["fingerprint"])
        )
        if not run.info.run_id:
            # MLflow takes an empty answer for an empty object.
            raise MlflowException("the answer to the creation of a run is empty")
        self.known[run.info.run_id] = Known(sure=True)
        return run

    def _fill(self, run_id: str, opening: Mapping[str, Any]) -> list[str]:
        notes = [
            f"param {key}: cut to {LENGTHS['params']} of {len(value)} characters; recipe.json has it whole"
            for key, value in opening["params"].items()
            if len(value) > LENGTHS["params"]
        ]
        try:
            self._batches(run_id, "params", opening["params"])
        except Refused as refused:
            notes.append(f"params: {refused}")
        with self._asked():
            self.client.log_inputs(run_id, datasets=_inputs(opening))
            if opening["restored"]:
                self.client.set_terminated(run_id, "FINISHED")
            self._tag(run_id, WHOLE_TAG, "true")
        return notes

    def _tag(self, run_id: str, key: str, value: str) -> None:
        # MLFLOW_ENABLE_ASYNC_LOGGING would have MLflow answer before anything is sent, and say nothing of what is refused.
        self.client.set_tag(run_id, key, value[: LENGTHS["tags"]], synchronous=True)

    def _batches(self, run_id: str, kind: str, values: Mapping[str, str]) -> None:
        entity = Param if kind == "params" else RunTag
        self._send(run_id, kind, [entity(key, str(value)[: LENGTHS[kind]]) for key, value in values.items()])

    def _send(self, run_id: str, kind: str, items: Sequence[Any]) -> None:
        refused: list[str] = []
        for start in range(0, len(items), BATCH[kind]):
            self._halves(run_id, kind, items[start : start + BATCH[kind]], refused)
        if refused:
            more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
            raise Refused("; ".join(refused[:3]) + more)

    def _halves(self, run_id: str, kind: str, items: Sequence[Any], refused: list[str], *, known: bool = False) -> None:
        """Store a batch; where it is refused, as much of it as can be: one bad name loses itself alone."""
        try:
            with self._asked():
                self.client.log_batch(run_id, synchronous=True, **{kind: items})
        except Refused as error:
            if not known:
                self.require(run_id)
            if len(items) == 1:
                refused.append(f"{items[0].key[:100]}: {error}")
                return
            middle = len(items) // 2
            self._halves(run_id, kind, items[:middle], refused, known=True)
            self._halves(run_id, kind, items[middle:], refused, known=True)

    def _missing(self, run_id: str, known: Known, points: Sequence[Point]) -> list[Point]:
        for key in {point.key for point in points} - known.metrics.keys():
            stored = known.metrics[key] = Stored()
            for point in () if known.sure else self.client.get_metric_history(run_id, key):
                stored.add(point.step, point.timestamp, point.value)
        return [point for point in points if not known.metrics[point.key].has(point)]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, KeyError):
            raise
        except Exception as error:  # stores of artifacts raise what their libraries raise
            headline = headline_of(error)
            code = getattr(error, "error_code", "")
            if code in FINAL or "failed with error code 413" in headline:
                raise Refused(headline) from error
            away = Away(headline)
            away.doubtful = code == "BAD_REQUEST"
            raise away from error


def _changed_params(run: Run, opening: Mapping[str, Any]) -> dict[str, str]:
    """Return tags for parameters of a stage that are not what the run was begun with: MLflow keeps the first value for good."""
    if not run.data.params:
        return {}
    blocks = tuple(f"{block}." for block in opening.get("blocks", ()))
    own = {key: value[: LENGTHS["params"]] for key, value in opening["params"].items() if key.startswith(blocks)}
    tags, params = run.data.tags, run.data.params
    return {f"changed.{key}": value for key, value in own.items() if tags.get(f"changed.{key}", params.get(key)) != value}


def _inputs(opening: Mapping[str, Any]) -> list[DatasetInput]:
    """Return the data sets of a run; a journal of an earlier version names one."""
    found = opening.get("datasets") or [opening["dataset"]]
    return [
        DatasetInput(
            Dataset(**{key: data[key] for key in ("name", "digest", "source_type", "source", "profile")}),
            [InputTag("mlflow.data.context", data.get("context", "training"))],
        )
        for data in found
    ]


def _create_database(uri: str) -> None:
    """Create the tables of a sqlite store aside: a full disk in the midst of it would leave a file that nothing opens."""
    path = database_file(uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < limits.SQLITE_BYTES:
        # It would take the last room from what trains.
        raise OSError(f"the disk is full: {path} needs {limits.SQLITE_BYTES // 2**20} MiB")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        MlflowClient(f"sqlite:///{folder}/{path.name}")
        try:
            # Not a rename, which would replace the store that another process made meanwhile.
            os.link(f"{folder}/{path.name}", path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(f"{folder}/{path.name}", path)
