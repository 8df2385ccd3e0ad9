"""A fit that is asked for its epochs one after another, and can be ended between two steps. Knows no Ray.

It computes in a thread of its own, at most AHEAD epochs further than whoever asks, so that nobody waits for a decision that
is nearly always: go on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytorch_lightning as pl
import torch

from trainyard.errors import Interrupted, TrainyardError
from trainyard.training.fence import Fence
from trainyard.training.fit import fit
from trainyard.training.guard import Guard
from trainyard.training.job import FitJob
from trainyard.training.keeper import Keeper

AHEAD = 2
LOOK_SECONDS = 0.1
"""How often a fit that waits for whoever asks looks whether it is to end."""


class EpochReports(pl.Callback):
    """Hands on what the keeper notes of each epoch, those of earlier attempts too."""

    def __init__(self, hand_on: Callable[[dict[str, float]], None]) -> None:
        self.hand_on = hand_on
        self.told = 0

    # The keeper, which comes last, has its epoch by the time that one of these is called.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        keeper = next(callback for callback in trainer.callbacks if isinstance(callback, Keeper))  # type: ignore[attr-defined]
        self.tell(keeper.history)

    def tell(self, history: list[dict[str, float]]) -> None:
        """Hand on the epochs that were not yet."""
        for values in history[self.told :]:
            self.told += 1
            self.hand_on(values)


class TrialFit:
    """One trial's fit, under way."""

    def __init__(
        self, job: FitJob, attempt: int, threads: int, ready: Callable[[FitJob], AbstractContextManager[FitJob]]
    ) -> None:
        """Begin it.

        Args:
            job: what to train.
            attempt: at this trial, from 1; an earlier one that still runs somewhere ends.
            threads: of torch.
            ready: brings to this machine what the job needs.
        """
        self.job = job
        self.attempt = attempt
        self.threads = threads
        self.ready = ready
        self.over = threading.Event()
        self.epochs: queue.Queue[dict[str, float]] = queue.Queue(maxsize=AHEAD)
        self.outcome: TrainyardError | BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self.thread.start()

    def next_epochs(self) -> tuple[list[dict[str, float]], bool]:
        """Wait for an epoch; return all that are there, and whether that was the last.

        Raises:
            TrainyardError: what the fit has met.
        """
        found: list[dict[str, float]] = []
        while True:
            try:
                found.append(self.epochs.get(timeout=0 if found else LOOK_SECONDS))
            except queue.Empty:
                if found:
                    return found, False
                if not self.thread.is_alive() and self.epochs.empty():
                    break
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return found, True

    def end(self) -> None:
        """Have the fit save at its next step, and wait until it has."""
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        reports = EpochReports(self._hand_on)
        try:
            with self.ready(self.job) as job:
                guard = Guard(Fence(job.store(), self.attempt))
                result = fit(job, stop=self.over, callbacks=[guard, reports])
            reports.tell(result.history)
        except BaseException as error:
            self.outcome = error

    def _hand_on(self, values: dict[str, float]) -> None:
        while not self.over.is_set():
            try:
                self.epochs.put(values, timeout=LOOK_SECONDS)
                return
            except queue.Full:
                continue
        raise Interrupted("the trial was told to end; it continues when the same command runs again")
