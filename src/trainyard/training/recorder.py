"""What rank 0 says of a training while it runs: into the spool, each thing once, however often the training restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from trainyard.training import fault
from trainyard.training.spool import Record, Spool

RECORD_SECONDS = 1.0
"""At least this long between two records within an epoch."""


class Recorder:
    """Appends records, but none that an earlier attempt has appended: steps done again give the same numbers."""

    def __init__(self, spool: Spool, total_steps: int) -> None:
        self.spool = spool
        self.total_steps = total_steps
        self.earlier_seconds = 0.0
        self.started = time.monotonic()
        self.resumed = False
        # The end of an epoch is on record once its checkpoint is durable, which another thread sees to.
        self._lock = threading.Lock()
        self.newest = {"progress": 0, "epoch": 0}
        """Optimizer step of the newest record of each kind."""

    def recall(self) -> None:
        """Take note of what earlier attempts have recorded.

        Raises:
            OSError: it cannot be read.
            ServiceError: the storage does not answer.
        """
        for record in self.spool.read():
            self.newest[record.kind] = max(self.newest[record.kind], record.step)

    def begin(self, step: int, history: list[dict[str, float]]) -> None:
        """Begin at a step; append what an earlier attempt had saved but not recorded.

        Raises:
            OSError: the disk is full or broken.
        """
        self.started = self.recorded = time.monotonic()
        self.start_step = step
        for epoch, values in enumerate(history):
            self.append("epoch", epoch, int(values["step"]), values)

    def seconds(self) -> float:
        """Return the seconds of training so far, earlier attempts included."""
        return self.earlier_seconds + time.monotonic() - self.started

    def progress(self, epoch: int, step: int, values: Callable[[], dict[str, float]]) -> None:
        """Append values within an epoch, if the last ones are old enough."""
        if time.monotonic() - self.recorded < RECORD_SECONDS:
            return
        self.recorded = time.monotonic()
        with suppress(OSError):
            # A full disk ends the training with its epoch, where all workers can leave at the same point.
            self.append("progress", epoch, step, values())

    def append(self, kind: Literal["progress", "epoch"], epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append a record, unless it is there.

        Raises:
            OSError: the disk is full or broken.
        """
        with self._lock:
            if step <= self.newest[kind]:
                return
            fault.point("report", step)
            rate = (time.monotonic() - self.started) / max(1, step - self.start_step)
            record = Record(
                kind=kind,
                epoch=epoch,
                step=step,
                seconds=values.get("seconds", self.seconds()),
                left_seconds=rate * (self.total_steps - step),
                values=dict(values),
                resumed=self.resumed,
            )
            self.spool.append(record)
            self.resumed = False
            self.newest[kind] = step

    def note(self, text: str) -> None:
        """Tell the user something; a disk that is full is told of elsewhere."""
        with self._lock, suppress(OSError):
            step, seconds = self.newest["progress"], self.seconds()
            record = Record(kind="progress", epoch=0, step=step, seconds=seconds, left_seconds=0, values={}, note=text)
            self.spool.append(record)
