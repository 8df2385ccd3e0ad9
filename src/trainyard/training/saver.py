"""Checkpoints written beside the training: the state is copied at once, and a thread brings the copy to the store."""

from __future__ import annotations

import copy
import errno
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainyard.errors import MachineError, ServiceError, TrainyardError
from trainyard.training import checkpoint, fault
from trainyard.training.checkpoint import Facts
from trainyard.training.store import FolderStore, Store, open_store

RETRY_SECONDS = 60.0
"""How long the end of an epoch is offered to a store that is away."""
PAUSE_SECONDS = 1.0
"""Between two offers."""


class _Submission(NamedTuple):
    facts: Facts
    state: Any
    then: Callable[[], None] | None


class Saver:
    """Writes checkpoints one at a time, in the order of their steps, and keeps the two newest and the best.

    A newer state takes the place of one that waits, unless that one is the end of an epoch, which is always written. A save
    within an epoch that fails is said, and the next one tries again; the end of an epoch that cannot be written is a problem,
    which `problem` and `drain` hand over, so that the training can end where all workers are at the same point. What was
    written before is whole in any case. For rank 0 alone.
    """

    def __init__(
        self,
        place: Store | Path,
        fingerprint: str,
        say: Callable[[str], None] | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            place: where checkpoints go.
            fingerprint: of the training.
            say: is told, in the thread that writes, of each save that failed and is no problem yet.
            first: is called in that thread before each checkpoint, which exists only if it comes back: a training that goes on
                from there takes for granted what was recorded before.
        """
        self.store = open_store(place) if isinstance(place, Path) else place
        self.fingerprint = fingerprint
        self.first = first
        self.say = say or logging.getLogger(__name__).warning
        self._changed = threading.Condition()
        self._waiting: list[_Submission] = []
        self._writing = False
        self.closed = False
        self._problem: TrainyardError | None = None
        self._thread: threading.Thread | None = None

    def submit(self, facts: Facts, state: Mapping[str, Any], then: Callable[[], None] | None = None) -> None:
        """Copy a state as it is now, and have it written; returns as soon as it is copied.

        Waits only where an epoch ends before the end of the last one has begun to be written.

        Args:
            facts: of the checkpoint.
            state: of the training; it may change as soon as this returns.
            then: is called in the thread that writes, once the checkpoint is durable.
        """
        submission = _Submission(facts, snapshot(state), then)
        with self._changed:
            self._waiting = [waiting for waiting in self._waiting if waiting.facts.ended]
            while facts.ended and self._waiting and not self._problem and not self.closed:
                self._changed.wait()
            self._waiting.append(submission)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="saver", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def problem(self) -> TrainyardError | None:
        """Return why the end of an epoch could not be written: MachineError or ServiceError; None where all is well."""
        with self._changed:
            return self._problem

    def drain(self) -> TrainyardError | None:
        """Wait until all that was submitted is written, and return what `problem` returns."""
        with self._changed:
            while (self._waiting or self._writing) and self._problem is None:
                self._changed.wait()
            return self._problem

    def last(self) -> str | None:
        """Return the name of the newest checkpoint, after all that was submitted is written; None before the first one."""
        self.drain()
        try:
            return next((found.name for found in reversed(checkpoint.stated(self.store, self.fingerprint)[0])), None)
        except (OSError, ServiceError):
            return None

    def close(self) -> None:
        """Forget what waits, and end the thread after what it writes now."""
        with self._changed:
            self._waiting.clear()
            self.closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (submission := self._next()) is not None:
            problem: TrainyardError | None = None
            try:
                self._write(submission)
            except (OSError, TrainyardError) as error:
                problem = self._told(submission, error)
            except BaseException as error:
                # Anything else is a mistake of ours, or no memory: it must not pass as a checkpoint that was written.
                problem = MachineError(
                    f"{self.store.address}: a checkpoint could not be written ({type(error).__name__}: {error})"
                )
            with self._changed:
                self._writing = False
                if problem is not None and submission.facts.ended:
                    self._problem = self._problem or problem
                self._changed.notify_all()
            if problem is not None and not submission.facts.ended:
                self.say(f"{problem}; the next save tries again")

    def _next(self) -> _Submission | None:
        with self._changed:
            while not self._waiting and not self.closed:
                self._changed.wait()
            if self.closed:
                return None
            self._writing = True
            submission = self._waiting.pop(0)
            self._changed.notify_all()
            return submission

    def _write(self, submission: _Submission) -> None:
        facts = submission.facts

        def save(file: Any) -> None:
            checkpoint.save_state(submission.state, file)
            fault.point("save", facts.step)

        deadline = time.monotonic() + (RETRY_SECONDS if facts.ended else 0.0)
        while True:
            try:
                if self.first is not None:
                    self.first()
                checkpoint.write(self.store, facts, save)
                break
            except ServiceError:
                # The training goes on meanwhile: a store that is away for some seconds costs nothing.
                if time.monotonic() >= deadline or self.closed:
                    raise
                time.sleep(PAUSE_SECONDS)
        if submission.then is not None:
            submission.then()
        try:
            checkpoint.prune(checkpoint.stated(self.store, self.fingerprint)[0])
        except (OSError, ServiceError) as error:
            self.say(f"{self.store.address}: old checkpoints could not be deleted ({error}); the next save tries again")

    def _told(self, submission: _Submission, error: OSError | TrainyardError) -> TrainyardError:
        facts, address = submission.facts, self.store.address
        what = f"the checkpoint of epoch {facts.epoch + 1}, step {facts.step}, could not be written"
        before = "the one before it is whole"
        if isinstance(error, TrainyardError):
            return ServiceError(f"{error}: {what}; {before}: then run the same command again to continue")
        room = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and isinstance(self.store, FolderStore):
            with suppress(OSError):
                free = shutil.disk_usage(self.store.folder).free
                room = f", {_megabytes(_bytes(submission.state))} are needed and {_megabytes(free)} free"
        return MachineError(
            f"{address}: {what} ({error}{room}); {before}: make room there, or writable, "
            "then run the same command again to continue"
        )


def snapshot(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Return a copy of a state on the host, which no later step changes; what was one tensor twice is so in the copy."""
    seen = {} if seen is None else seen
    if id(value) not in seen:
        # The value is kept as well: its number must not become another one's meanwhile.
        seen[id(value)] = value, _copied(value, seen)
    return seen[id(value)][1]


def _copied(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        # Of the same type and with the same attributes, as a network's state dict has them.
        copied = copy.copy(value)
        for key, item in value.items():
            copied[key] = snapshot(item, seen)
        return copied
    if type(value) in (list, tuple):
        return type(value)(snapshot(item, seen) for item in value)
    return copy.deepcopy(value)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes, items))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
