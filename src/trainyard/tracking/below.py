"""Runs that belong to another one, and are sent by the process that sends that one: MLflow's import, seconds, is paid once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from trainyard.data.packed import Card
from trainyard.recipe import Recipe
from trainyard.tracking.journal import now
from trainyard.tracking.run import REASON_LENGTH, Tracking, masked
from trainyard.training.cluster_config import TrackingConfig

Status = Literal["FINISHED", "FAILED", "KILLED"]
ENDS: dict[Status, str] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}


class Unsent:
    """A sender that sends nothing: whoever looks for journals whose owners are done does."""

    def tell(self, what: dict[str, Any]) -> None:
        """Do nothing."""

    def revive(self) -> bool:
        """Say that there is none."""
        return False

    def busy_seconds(self) -> float:
        """Return no time."""
        return 0.0

    def end(self) -> None:
        """Do nothing."""


class TrackingBelow(Tracking):
    """The run of one of many trainings, told of by the driver of all of them."""

    def __init__(self, root: Path, config: TrackingConfig, recipe: Recipe, stage: str, above: Tracking) -> None:
        super().__init__(root, config, recipe, stage, sender=Unsent())
        self.experiment = above.experiment
        self.parent = above.key

    def begin(self, identity: Path, fingerprint: str, card: Card, tags: Mapping[str, str]) -> None:
        """Begin the run, or continue the one that an interrupted attempt wrote to `identity`."""
        self.start(identity, fingerprint, card, tags)
        # There is no spool: whoever trains tells the driver, which is what tells of it here.
        self._append("status", {"status": "RUNNING", "spool": os.devnull, "tags": {"exit.state": "running"}})

    def epochs(self, first: int, history: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of epochs from number `first` on, each once however often it is told of."""
        at = now()
        points = [
            (name, float(value), at, epoch)
            for epoch, values in enumerate(history, start=first)
            for name, value in values.items()
            if name != "step"
        ]
        if points:
            self._append("metrics", {"points": points, "once": True})

    def end(self, status: Status, reason: str = "") -> None:
        """Say how it ended, and leave the rest to the sender of the run above."""
        tags = masked({"exit.state": ENDS[status], "exit.reason": reason[:REASON_LENGTH]})
        self._append("status", {"status": status, "tags": tags})
        journal = self._owned()
        journal.append("end", {})
        journal.release()

    def is_sent(self) -> bool:
        """Return whether all of it was sent."""
        return self.journal is None or not self.journal.folder.exists()
