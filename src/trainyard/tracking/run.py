"""What a stage tells of its run. Every call returns once it is in the spool on this disk; the poster sends it on."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from trainyard.data.packed import Card
from trainyard.errors import Interrupted
from trainyard.evaluation.results import sha256_of_test
from trainyard.files import write_whole
from trainyard.masking import mask
from trainyard.progress import say
from trainyard.provenance import PARENT_VARIABLE as PARENT_VARIABLE
from trainyard.recipe import Recipe
from trainyard.tracking import limits
from trainyard.tracking.address import artifact_place, tracking_uri, without_password
from trainyard.tracking.appearance import experiment_tags, run_name, source_tags
from trainyard.tracking.journal import Journal, State, now
from trainyard.tracking.load import Load
from trainyard.tracking.records import Passed, points_of
from trainyard.tracking.schema import check_schema
from trainyard.tracking.sender import AnySender, Sender
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.spool import Reader, Record
from trainyard.training.timing import LOAD_SECONDS

DIGEST = 12
"""Characters of a hash that MLflow shows of a data set."""
REASON_LENGTH = 500
"""Characters of an error that a run's tag holds."""


class Tracking:
    """The run of a recipe's state, as one stage adds to it. A context: at its end what waits is sent, or kept for later."""

    def __init__(self, root: Path, config: TrackingConfig, recipe: Recipe, stage: str, sender: AnySender | None = None) -> None:
        """Start the process that sends, unless another one does.

        Raises:
            ServiceError: the tables of the local database are of another version of MLflow.
        """
        self.root = root
        self.uri = tracking_uri(root, config)
        self.recipe = recipe
        self.stage = stage
        self.experiment = config.experiment or recipe.name
        self.system_metrics = config.system_metrics
        check_schema(self.uri)
        self.journal: Journal | None = None
        self.key = self.fingerprint = ""
        self._known_id: str | None = None
        self.parent = os.environ.get(PARENT_VARIABLE)
        self.sender = sender or Sender(root, self.uri)
        self._began = time.time()
        self._passed = Passed()
        self._unwritten: list[Record] = []
        self._said_away = False
        self._finished = False

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # What ended the stage is told first, also where the disk is what failed.
        with suppress(OSError) if kind else nullcontext():
            self.finish(limits.STOPPED_SECONDS if kind else None)

    def start(self, identity: Path, fingerprint: str, card: Card, tags: Mapping[str, str]) -> None:
        """Begin the run of a training, or continue the one that an interrupted attempt wrote to `identity`.

        Raises:
            OSError: the disk is full.
        """
        known = read_identity(identity) if identity.is_file() else {}
        self.key, self.fingerprint = known.get("run_key") or uuid.uuid4().hex, fingerprint
        self._began = float(known.get("began", time.time()))
        if not known:
            values = {"run_key": self.key, "run_id": None, "fingerprint": fingerprint, "began": self._began}
            write_whole(identity, f"{json.dumps(values)}\n".encode())
        self._open(known.get("run_id"), card, tags, restored=False)
        if known:
            # The run is there already; what this attempt is made from replaces what the one before was.
            self.tag(tags)

    def attach(self, identity: Path, fingerprint: str, card: Card) -> None:
        """Add to the run that training wrote to `identity`, or to the same state's in this store, or else to a new one.

        A new one is needed where the model came from DVC's cache of another machine, whose store is not this one.

        Raises:
            OSError: the disk is full.
        """
        known = read_identity(identity)
        self.key, self.fingerprint = known["run_key"], fingerprint
        self._open(known.get("run_id"), card, {}, restored=True)

    def identity(self) -> bytes:
        """Return what ties files to this run: the key that was made here, and the store's own id where it is known."""
        run_id = self._state().run_id or self._known_id
        return f"{json.dumps({'run_key': self.key, 'run_id': run_id, 'fingerprint': self.fingerprint})}\n".encode()

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._append("tags", masked(tags))

    def note(self, text: str) -> None:
        """Show a text in Markdown on the run's page, in which {run_id} is its id, unless a person wrote another one there."""
        self._append("note", {"text": mask(text)})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step."""
        at = now()
        self._append("metrics", {"points": [(key, float(value), at, step) for key, value in values.items()], "once": False})

    def record(self, reader: Reader) -> list[Record]:
        """Take over what a training recorded since the last call, and return it. A full disk makes it wait, not fail."""
        new = list(reader.read())
        self._unwritten += [record for record in new if self._passed.is_new(record)]
        with suppress(OSError):
            self._write_rest()
        return new

    def load(self, values: Mapping[str, float]) -> None:
        """Log what machines or workers use now, if system metrics are wanted. A full disk loses it."""
        if not values or not self.system_metrics:
            return
        with suppress(OSError):
            # Steps are moments, so that a resumed run goes on where it was, whatever was sent.
            self.metrics(values, step=int((time.time() - self._began) / LOAD_SECONDS))

    def artifacts(self, paths: Iterable[Path], folder: str) -> None:
        """Add files as they are now."""
        for path in paths:
            self._append("artifact", {"file": self._owned().add_file(path), "folder": folder})

    def model(self, folder: Path, names: Iterable[str], tags: Mapping[str, str]) -> None:
        """Add a bundle as the run's model, to be registered as a new version under the recipe's name.

        Args:
            folder: with the files.
            names: of those that the model needs.
            tags: of the version.
        """
        place = self._owned().add_folder(folder, names)
        self._append(
            "model",
            {
                "name": self.recipe.name,
                "folder": place,
                "registered": self.registered,
                "tags": masked({"trainyard.recipe": self.recipe.name, "trainyard.fingerprint": self.fingerprint, **tags}),
            },
        )

    def champion(self, fingerprint: str) -> None:
        """Have the registered version with a fingerprint be the recipe's champion, once it is there."""
        self.tag({"trainyard.champion": "yes" if fingerprint == self.fingerprint else "no"})
        self._append("champion", {"registered": self.registered, "fingerprint": fingerprint})

    @property
    def registered(self) -> str:
        """The name under which the recipe's models are registered; it begins with the experiment, where one is named."""
        if self.experiment == self.recipe.name:
            return self.recipe.name
        # Which may be called /Users/me/digits: MLflow takes neither sign in the name of a model.
        return f"{re.sub('[/:]+', '-', self.experiment).strip('-')}-{self.recipe.name}"

    @contextmanager
    def running(self, spool: Path) -> Iterator[None]:
        """Hold a run open while training: its status follows how the block ends, the machine's load is recorded.

        Should this process be killed, the next command sends what is left in `spool` and says that the run was killed.
        """
        under_way = {"exit.state": "running", "exit.reason": "", "exit.code": ""}
        self._append("status", {"status": "RUNNING", "spool": str(spool), "tags": under_way})
        load = Load(self.load) if self.system_metrics else None
        status, said = "FAILED", {}
        try:
            yield
            status, said = "FINISHED", _exit_tags("finished", None)
        except (KeyboardInterrupt, Interrupted) as error:
            status, said = "KILLED", _exit_tags("interrupted", error)
            raise
        except BaseException as error:
            said = _exit_tags("failed", error)
            raise
        finally:
            if load is not None:
                load.stop()
            # What ended the training is told first, also where the disk is what failed.
            with suppress(OSError) if status != "FINISHED" else nullcontext():
                self._write_rest()
                self._append("status", {"status": status, "tags": said})

    def watch(self) -> None:
        """Say once what is new about the store, and start the sending process again if it was killed."""
        self.sender.revive()
        problem = self._state().problem
        if problem and not self._said_away:
            say(self.recipe.name, self.stage, f"warning: MLflow at {self._place()}: {problem}; the {self.stage} goes on")
        elif self._said_away and not problem:
            say(self.recipe.name, self.stage, f"MLflow at {self._place()} answers again")
        self._said_away = bool(problem)

    def finish(self, limit: float | None = None) -> None:
        """Wait until all is sent, while the store answers; otherwise say where it waits, and for what. At most `limit` seconds.

        Raises:
            OSError: the disk is full.
        """
        if self._finished:
            return
        self._finished = True
        journal = self.journal
        try:
            if journal is not None:
                self._write_rest()
                journal.append("end", {})
                self._wait(journal, limit)
        finally:
            self.sender.end()
            if journal is not None:
                self._leave(journal, "does not answer" if limit is None else f"has not taken all of it within {limit:g} s")

    def _open(self, run_id: str | None, card: Card, tags: Mapping[str, str], *, restored: bool) -> None:
        self._known_id = run_id
        opening = {
            "uri": without_password(self.uri),
            "experiment": self.experiment,
            "artifacts": artifact_place(self.root, self.uri, self.experiment),
            "run_key": self.key,
            "run_id": run_id,
            "fingerprint": self.fingerprint,
            "name": run_name(self.recipe.name, self.recipe.train.seed, self.fingerprint),
            "experiment_tags": experiment_tags(card.kind, now()),
            "restored": restored,
            "params": masked(flatten(self.recipe.to_json())),
            # Of the parameters, those that this stage reads.
            "blocks": ["data", "model", "train"] if self.stage == "train" else [self.stage],
            "tags": masked({**source_tags(self.stage), "trainyard.recipe": self.recipe.name, **tags}),
            "parent": self.parent,
            "datasets": [dataset(card), tested_dataset(card)],
        }
        self.journal = Journal.create(self.root, self.stage, self.recipe.name, opening)
        self.sender.tell({"journal": str(self.journal.folder)})

    def _owned(self) -> Journal:
        if self.journal is None:
            raise RuntimeError("nothing is recorded before a run is started or attached to")
        return self.journal

    def _append(self, kind: str, values: dict[str, Any]) -> None:
        self._owned().append(kind, values)

    def _write_rest(self) -> None:
        if self._unwritten:
            points = [point for record in self._unwritten for point in points_of(record)]
            self._append("metrics", {"points": points, "once": True})
            self._unwritten.clear()

    def _state(self) -> State:
        return self.journal.load_state() if self.journal else State()

    def _place(self) -> str:
        return without_password(self.uri)

    def _wait(self, journal: Journal, limit: float | None) -> None:
        """Wait while the sender gets on; a store that is away, or silent, is waited for only so long."""
        self.sender.tell({"hurry": True})
        began = progress = time.monotonic()
        sent, worked = -1, -1.0
        while not journal.complete():
            state, busy = journal.load_state(), self.sender.busy_seconds()
            moment = time.monotonic()
            # One that computes (imports, packs a model, encrypts an upload) is not waiting for an answer.
            if state.sent != sent or (not state.problem and busy - worked > 0.02):
                sent, worked, progress = state.sent, busy, moment
            if moment - progress > limits.AWAY_SECONDS or (limit is not None and moment - began > limit):
                return
            if not self.sender.revive():
                return
            time.sleep(limits.POLL_SECONDS)

    def _leave(self, journal: Journal, otherwise: str) -> None:
        state = journal.load_state()
        self._known_id = state.run_id or self._known_id
        for note in state.notes:
            say(self.recipe.name, self.stage, f"warning: MLflow does not take {note}")
        if journal.complete():
            journal.remove()
            return
        problem = state.problem or otherwise
        say(
            self.recipe.name,
            self.stage,
            f"warning: MLflow at {self._place()}: {problem}; what it missed waits in {journal.folder} and is sent by the next "
            "stage, or by: trainyard sync",
        )
        journal.release()


def read_identity(path: Path) -> dict[str, Any]:
    """Return what a run.json says of its run."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    # Those of earlier versions name the run by the store's id alone.
    return {"run_key": values.get("run_id"), **values}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested mappings as dotted names, the way params.yaml is written."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat


def masked(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text without the secrets that can be told."""
    return {key: mask(str(value)) for key, value in values.items()}


def _exit_tags(state: str, error: BaseException | None) -> dict[str, str]:
    """Return how a training ended, and why."""
    if error is None:
        return {"exit.state": state, "exit.reason": "", "exit.code": "0"}
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    reason = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {str(error)[:REASON_LENGTH]}"
    return masked({"exit.state": state, "exit.reason": reason, "exit.code": code})


def dataset(card: Card) -> dict[str, str]:
    """Return the identity of the packed data, as MLflow shows it under Datasets."""
    profile = {"samples": card.samples, "classes": len(card.classes), **card.input}
    return {
        "name": card.source,
        "digest": card.sha256[:DIGEST],
        "source_type": "trainyard",
        "source": json.dumps({"source": card.source, "sha256": card.sha256, "libraries": card.libraries}),
        "profile": json.dumps(profile),
        "context": "training",
    }


def tested_dataset(card: Card) -> dict[str, str]:
    """Return the identity of the tested samples: runs with the same one may be compared, whatever they were trained on."""
    sha256 = sha256_of_test(card)
    return {
        **dataset(card),
        "name": f"{card.source} test",
        "digest": sha256[:DIGEST],
        "source": json.dumps({"source": card.source, "split": "test", "sha256": sha256}),
        "profile": json.dumps({"samples": card.samples["test"]}),
        "context": "testing",
    }
