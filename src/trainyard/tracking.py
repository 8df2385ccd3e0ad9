"""MLflow: one run for each trained recipe state, carried through train, evaluate and export."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainyard.data.packed import Card
from trainyard.errors import MachineError, ServiceError
from trainyard.files import write_whole
from trainyard.masking import mask
from trainyard.recipe import Recipe
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.spool import Reader, Record

# Read by MLflow when it is imported. A server that is down may delay a stage, but not for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.exceptions
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

MISSING = mlflow.exceptions.MlflowException
LOST = (MISSING, SQLAlchemyError, OSError)
"""What MLflow raises when its store cannot be reached or written."""
RETRY_SECONDS = 15.0
SAMPLING_SECONDS = 5.0
FINGERPRINT_TAG = "trainyard.fingerprint"


class Tracking:
    """A tracking store, and the runs of one recipe in it."""

    def __init__(self, root: Path, config: TrackingConfig, recipe: Recipe) -> None:
        """Open the store.

        Raises:
            MachineError: the database file cannot be written or read.
            ServiceError: the tracking server does not answer.
        """
        self.uri = tracking_uri(root, config)
        self.recipe = recipe
        self.system_metrics = config.system_metrics
        # What goes wrong is raised as well, and said once.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="mlflow.*")
        with self._reached():
            _create_database(self.uri)
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(root, config.experiment or recipe.name)

    def start(self, fingerprint: str, card: Card, tags: Mapping[str, str]) -> str:
        """Create the run of a recipe state and return its id."""
        with self._reached():
            run = self.client.create_run(self.experiment_id, run_name=fingerprint)
            run_id: str = run.info.run_id
            params = [Param(key, mask(value)[:6000]) for key, value in flatten(self.recipe.to_json()).items()]
            self.client.log_batch(run_id, params=params[:100])
            self.client.log_inputs(run_id, datasets=[_dataset_input(card)])
            self.tag(run_id, {FINGERPRINT_TAG: fingerprint, "trainyard.recipe": self.recipe.name, **tags})
            return run_id

    def find(self, run_id: str | None, fingerprint: str) -> str | None:
        """Return the run of that id, or else the newest of that fingerprint, if this store has one."""
        with self._reached():
            if run_id:
                try:
                    run = self.client.get_run(run_id)
                    if run.info.lifecycle_stage == "active":
                        return run_id
                except MISSING:
                    pass
            found = self.client.search_runs([self.experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'", max_results=1)
            return found[0].info.run_id if found else None

    def attach(self, run_path: Path, fingerprint: str, card: Card) -> str:
        """Return the run that training wrote to `run_path`, or the same state's in this store, or else a new one.

        A new one is needed where the model came from DVC's cache of another machine, whose store is not this one.
        """
        run_id: str = json.loads(run_path.read_text(encoding="utf-8"))["run_id"]
        return self.find(run_id, fingerprint) or self.start(fingerprint, card, {"trainyard.restored": run_id})

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        with self._reached():
            self.client.log_batch(run_id, tags=[RunTag(key, mask(str(value))[:5000]) for key, value in tags.items()])

    def metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step."""
        now = int(time.time() * 1000)
        with self._reached():
            self.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def artifacts(self, run_id: str, paths: Iterable[Path], folder: str) -> None:
        """Upload files."""
        with self._reached():
            for path in paths:
                self.client.log_artifact(run_id, str(path), folder)

    def onnx_model(self, run_id: str, path: Path, example: Mapping[str, Any], logits: Any) -> None:
        """Log a verified ONNX file as the run's model, with signature and input example."""
        import onnx
        from mlflow.models import infer_signature
        from mlflow.onnx import log_model

        mlflow.set_tracking_uri(self.uri)
        with self._reached(), mlflow.start_run(run_id=run_id):
            log_model(
                onnx.load(path),
                name=self.recipe.name,
                signature=infer_signature(dict(example), {"logits": logits}),
                input_example=dict(example),
                pip_requirements=[f"onnxruntime=={_version('onnxruntime')}", f"numpy=={_version('numpy')}"],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
            )

    @contextmanager
    def running(self, run_id: str) -> Iterator[None]:
        """Hold a run open while training: its status follows how the block ends, the machine's load is recorded."""
        with self._reached():
            self.client.update_run(run_id, status="RUNNING")
        monitor = None
        if self.system_metrics:
            monitor = SystemMetricsMonitor(
                run_id, sampling_interval=SAMPLING_SECONDS, resume_logging=True, tracking_uri=self.uri
            )
            monitor.start()
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if monitor is not None:
                monitor.finish()
            # What ended the training is told first, also where the store is what failed.
            with self._reached() if status == "FINISHED" else suppress(*LOST):
                self.client.set_terminated(run_id, status)

    def _experiment(self, root: Path, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        local = self.uri.startswith("sqlite:")
        # Without a stated place, a sqlite store puts artifacts under whatever the current folder is.
        location = (root / "mlartifacts" / name).as_uri() if local else None
        return str(self.client.create_experiment(name, artifact_location=location))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            headline = mask(str(error).splitlines()[0])[:300]
            if self.uri.startswith("sqlite:"):
                raise MachineError(
                    f"MLflow at {self.uri}: {headline}; make room on that disk, or make the file writable, then run the same "
                    "command again; nothing is lost"
                ) from error
            raise ServiceError(
                f"MLflow at {mask(self.uri)}: {headline}; start the server, or change MLFLOW_TRACKING_URI or "
                "tracking.uri, then run the same command again"
            ) from error


class Forwarder:
    """Sends the records of a training on to its run, each once, also over restarts; never raises for a lost server."""

    def __init__(self, tracking: Tracking, run_id: str, reader: Reader, sent_path: Path) -> None:
        self.tracking = tracking
        self.run_id = run_id
        self.reader = reader
        self.sent_path = sent_path
        self.pending: list[Record] = []
        self.sent = {"progress": -1, "epoch": -1}
        self.not_before = 0.0
        if sent_path.is_file():
            self.sent.update(json.loads(sent_path.read_text(encoding="utf-8")))

    def forward(self) -> list[Record]:
        """Read what is new, try to send it, and return it."""
        new = list(self.reader.read())
        self.pending.extend(new)
        if self.pending and time.monotonic() >= self.not_before:
            self.flush()
        return new

    def flush(self) -> bool:
        """Send all that waits; return whether it arrived."""
        metrics, sent = [], dict(self.sent)
        now = int(time.time() * 1000)
        for record in self.pending:
            step = record.epoch if record.kind == "epoch" else record.step
            if step > sent[record.kind]:
                sent[record.kind] = step
                metrics += [Metric(key, value, now, step) for key, value in record.values.items() if key != "step"]
        try:
            for start in range(0, len(metrics), 1000):
                self.tracking.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        except LOST:
            self.not_before = time.monotonic() + RETRY_SECONDS
            return False
        self.pending.clear()
        self.sent = sent
        write_whole(self.sent_path, json.dumps(sent).encode())
        return True


def _create_database(uri: str) -> None:
    """Create the tables of a sqlite store aside: a full disk in the midst of it would leave a file that nothing opens."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        MlflowClient(f"sqlite:///{folder}/{path.name}")
        try:
            # Not a rename, which would replace the store that another process made meanwhile.
            os.link(f"{folder}/{path.name}", path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(f"{folder}/{path.name}", path)


def tracking_uri(root: Path, config: TrackingConfig) -> str:
    """Return where runs go: MLFLOW_TRACKING_URI, else `tracking.uri`, else a sqlite file in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.uri or f"sqlite:///{root / 'mlflow.db'}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested mappings as dotted names, the way params.yaml is written."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat


def _dataset_input(card: Card) -> DatasetInput:
    """Return the identity of the packed data, as MLflow shows it under Datasets."""
    profile = {"samples": card.samples, "classes": len(card.classes), **card.input}
    dataset = Dataset(
        name=card.source,
        digest=card.sha256[:32],
        source_type="trainyard",
        source=json.dumps({"source": card.source, "sha256": card.sha256, "libraries": card.libraries}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _version(library: str) -> str:
    from importlib.metadata import version

    return version(library)
