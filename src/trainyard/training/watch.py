"""The driver's watch over its workers: which one hangs, lags, was lost or has failed, and who replaces it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainyard.errors import InputError, TrainyardError
from trainyard.training.beat import FETCHING, Hang, Hearing, Place
from trainyard.training.failure import Failure
from trainyard.training.job import FitJob
from trainyard.training.load import Sample
from trainyard.training.memory import killed_for_memory
from trainyard.training.timing import ACCUSED_SECONDS, BEAT_SECONDS, LAG_SECONDS


class Board(Protocol):
    """Where workers post what they say."""

    def read(self, names: list[str]) -> dict[str, bytes]:
        """Return those of the values that there are."""


class Watch:
    """Listens in the background; the lines that it has to say are fetched with `news`."""

    def __init__(
        self,
        job: FitJob,
        board: Board,
        workers: int,
        *,
        has_ended: Callable[[Place], bool],
        end: Callable[[Place], None],
    ) -> None:
        """Begin to listen.

        Args:
            job: what they train.
            board: where the workers post.
            workers: how many there are at most.
            has_ended: says whether a worker is known to have ended.
            end: kills one, wherever it is.
        """
        self.job = job
        self.board = board
        self.has_ended = has_ended
        self.end = end
        self.hearing = Hearing()
        self.notes: dict[str, str] = {}
        """What the run is tagged with."""
        self._names = [f"{kind}-{rank}" for rank in range(workers) for kind in ("rank", "error", "load")]
        self._loads: dict[int, bytes] = {}
        self._new_loads: deque[Sample] = deque()
        self._news: deque[str] = deque()
        self._cause = ""
        self._explained: tuple[str, ...] = ()
        """The workers of the attempt that ended by it."""
        self._told: set[Failure] = set()
        self._problem: TrainyardError | None = None
        self._accused: tuple[Hang, float] | None = None
        self._lagging: dict[int, float] = {}
        self._memory_kills = killed_for_memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._thread.start()

    def news(self) -> list[str]:
        """Return the lines that are new since the last call."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def check(self) -> None:
        """Go on unless a worker met what a new attempt would meet again.

        Raises:
            InputError: an exception in code or data.
        """
        if self._problem is not None:
            raise self._problem

    @property
    def trains(self) -> bool:
        """Whether a worker has begun to train, so that there is something to save."""
        return any(beat.phase not in ("start", FETCHING, "over") for beat in self.hearing.beats.values())

    @property
    def cause(self) -> str:
        """Why and where the last worker was lost; empty if none was."""
        return self._cause

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                messages = self.board.read(self._names)
            except Exception:  # Ray's head is away, and says so in many ways: nobody can be heard until it is back
                self.hearing.deaf()
                continue
            self.hearing.listen({int(n[5:]): value for n, value in messages.items() if n.startswith("rank-")})
            self._take_loads(messages)
            self._failures([Failure.decode(value) for n, value in messages.items() if n.startswith("error-")])
            self._losses()
            self._hangs()
            self._stragglers()

    def loads(self, *, last: bool = False) -> list[Sample]:
        """Return what workers have said of their load since the last call.

        Args:
            last: the workers have ended, and what they said then is fetched first.
        """
        if last:
            with suppress(Exception):  # Ray's head is away: then this is all
                self._take_loads(self.board.read([name for name in self._names if name.startswith("load-")]))
        return [self._new_loads.popleft() for _ in range(len(self._new_loads))]

    def _take_loads(self, messages: dict[str, bytes]) -> None:
        for name, value in messages.items():
            rank = int(name.partition("-")[2])
            if name.startswith("load-") and self._loads.get(rank) != value:
                self._loads[rank] = value
                self._new_loads.append(Sample.decode(value))

    def _failures(self, failures: list[Failure]) -> None:
        """Take what workers have failed with, each once; that a peer does not answer is no cause where it was lost."""
        for failure in sorted(set(failures) - self._told, key=lambda failure: failure.peer):
            self._told.add(failure)
            cause = f"{failure.where}: {failure.said}"
            if failure.memory:
                self._problem = self._problem or InputError(f"training stopped: {cause}; {self._less_memory()}")
            elif failure.lasting:
                self._problem = self._problem or InputError(
                    f"training stopped: {cause}; this comes again in every attempt: correct it, then run the same "
                    "command again to continue"
                )
            if not failure.peer or not failure.where.startswith(self._explained):
                self._explain(cause)

    def _explain(self, cause: str) -> None:
        """Note why the attempt that is under way ends."""
        self._cause = cause
        self._explained = tuple(str(beat.place) for beat in self.hearing.beats.values())

    def _losses(self) -> None:
        """Note the processes on this machine that are gone without a word."""
        here = os.uname().nodename
        for rank, beat in list(self.hearing.beats.items()):
            if beat.phase == "over" or beat.place.host != here or Path(f"/proc/{beat.place.pid}").exists():
                continue
            kills = killed_for_memory()
            why = "was lost"
            if kills > self._memory_kills:
                why = f"was ended as memory ran out ({self._less_memory()})"
                self._memory_kills = kills
            elif self._accused is not None and self._accused[0].beat.place == beat.place:
                self.hearing.forget(rank)
                continue
            self._news.append(f"{beat} {why}; the workers start again")
            self._explain(f"{beat} {why}")
            self.hearing.forget(rank)

    def _less_memory(self) -> str:
        train = self.job.recipe.train
        if isinstance(train.batch_size, int):
            size = train.micro_batch_size or train.batch_size
            return (
                f"train.batch_size is {train.batch_size}: set train.micro_batch_size: {max(1, size // 2)}, which needs half "
                "the memory for the same result, then run the same command again"
            )
        return "set train.micro_batch_size, which needs less memory for the same result, then run the same command again"

    def _hangs(self) -> None:
        hang, now = self.hearing.hang(), time.monotonic()
        if hang is None:
            return
        if self._accused is not None and now - self._accused[1] < ACCUSED_SECONDS:
            return
        place = hang.beat.place
        if self.has_ended(place):
            self.hearing.forget(place.rank)
            return
        self._accused = (hang, now)
        self._news.append(f"{hang}; it is ended, and the workers start again")
        self._explain(str(hang))
        self.hearing.forget(place.rank)
        self.end(place)

    def _stragglers(self) -> None:
        found, now = self.hearing.straggler(), time.monotonic()
        if found is None:
            self._lagging.clear()
            return
        beat, factor = found
        since = self._lagging.setdefault(beat.place.rank, now)
        if now - since >= LAG_SECONDS and "straggler" not in self.notes:
            self.notes["straggler"] = f"{beat.place}, {factor:.1f} times the others' time"
            self._news.append(
                f"{beat.place} needs {factor:.1f} times as long as the others for its share of a step, and they wait for it; "
                "look at what else runs there"
            )
