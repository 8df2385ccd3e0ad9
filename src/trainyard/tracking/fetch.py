"""Runs of the tracking store, with their curves and files, asked for in a process of its own while this one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import ServiceError
from trainyard.tracking.address import database_file, tracking_uri, without_password
from trainyard.tracking.schema import check_schema
from trainyard.training.cluster_config import TrackingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRun:
    """What the store knows of a run."""

    run_id: str
    name: str
    status: str
    seconds: float | None
    """From its start to its end; None while it has none."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""
    curves: Mapping[str, Sequence[tuple[int, float]]]
    """(epoch, value) of metrics with a value an epoch."""
    peaks: Mapping[str, float]
    """The largest value of what was measured of the machine."""
    folder: Path | None
    """Where its files are; None where they were not asked for."""


@dataclass(frozen=True, slots=True)
class NotFetched:
    """Why nothing is known of a run."""

    problem: str
    away: bool
    """The store did not answer; otherwise it has no such run, or several."""
    several: bool = False
    """Which the problem lists."""


class Fetch:
    """Asks a store for runs. `start` returns at once, `wait` gives the answers."""

    def __init__(self, root: Path, config: TrackingConfig, folder: Path) -> None:
        """Say where, and into which folder files go."""
        self.uri = tracking_uri(root, config)
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    @property
    def place(self) -> str:
        """The store, as a message names it."""
        return without_password(self.uri)

    def start(self, names: Sequence[tuple[str, bool]]) -> None:
        """Ask for runs by id, name or fingerprint, each with its files or without them.

        Raises:
            ServiceError: the tables of the local database are of another version of MLflow.
        """
        path = database_file(self.uri)
        self._count = len(names)
        if not names or (path is not None and not path.is_file()):
            return
        check_schema(self.uri)
        self.folder.mkdir(parents=True, exist_ok=True)
        asked = [{"name": name, "files": files} for name, files in names]
        question = json.dumps({"uri": self.uri, "folder": str(self.folder), "asked": asked})
        source = str(Path(__file__).parents[2])
        path_ = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        with (self.folder / "bring.log").open("w") as log:
            # The address, which may hold a password, by stdin: every user of the machine sees arguments.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainyard.tracking.bring"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path_},
            )
        if self._process.stdin is not None:
            self._process.stdin.write(question + "\n")
            self._process.stdin.close()

    def wait(self) -> list[FetchedRun | NotFetched]:
        """Return what was found, in the order in which it was asked for.

        Raises:
            ServiceError: the process ended without an answer.
        """
        if self._process is None:
            return [NotFetched("has no runs yet", away=False)] * self._count
        code = self._process.wait()
        if code:
            log = (self.folder / "bring.log").read_text(encoding="utf-8", errors="replace").splitlines()
            reason = log[-1] if log else f"asking ended with code {code}"
            raise ServiceError(f"MLflow at {self.place}: {reason}; see that it runs, then the same command again")
        answers = json.loads((self.folder / "runs.json").read_text(encoding="utf-8"))
        return [_answer(values) for values in answers]


def _answer(values: dict[str, Any]) -> FetchedRun | NotFetched:
    if "problem" in values:
        return NotFetched(values["problem"], values["away"], values["several"])
    folder = values["folder"]
    curves = {key: [(int(step), float(value)) for step, value in points] for key, points in values["curves"].items()}
    return FetchedRun(**{**values, "curves": curves, "folder": None if folder is None else Path(folder)})
