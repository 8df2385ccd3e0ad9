"""What a worker says of itself every second, and how the driver tells from it that one hangs or lags.

The rule for a hang. A worker that says nothing for SILENCE_SECONDS is stopped, or something in it holds the interpreter's
lock. One that speaks, but whose training stays in one phase of a step, may do so for ten times the longest it has been in
that phase before, and for LEAST_SECONDS at least; in a phase that is new to it, where things are compiled, or while it saves,
for as long as that may take; while it fetches data, for as long as the next piece may take. Workers wait for each other in
every reduction, so all of them must be past their limit, and the one that got least far is to blame.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Literal

from trainyard.training.timing import (
    FETCH_SECONDS,
    HANG_FACTOR,
    LAG_FACTOR,
    LAG_STEPS,
    LEAST_SECONDS,
    NEW_PHASE_SECONDS,
    SAVING_SECONDS,
    SILENCE_SECONDS,
)

FETCHING = "fetching"
PHASES = ("start", FETCHING, "between steps", "forward", "backward", "optimizer", "validation", "epoch end", "saving", "over")
"""In the order of a step and an epoch: of two workers in one step, the one in the earlier phase got less far."""
WAITING = "between steps"
STEP_PHASES = (WAITING, "forward", "backward", "optimizer")
"""Those that make up a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which process a worker is."""

    rank: int
    workers: int
    host: str
    node: str
    """Ray's id of the node."""
    pid: int
    actor: str
    """Ray's id of the worker."""

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One message of a worker."""

    place: Place
    epoch: int
    """0-based."""
    step: int
    """Optimizer steps done."""
    phase: str
    still_seconds: float
    """For how long it has been in this phase."""
    limit_seconds: float
    """For how long it may be."""
    own_seconds: float | None
    """Mean time of its latest forward passes, in which it waits for nobody. A process that gets a fifth of a processor runs
    at full speed for a while and then stands: the median would not show it."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Beat:
        values = json.loads(data)
        return Beat(**{**values, "place": Place(**values["place"])})

    @property
    def progress(self) -> tuple[int, int, int]:
        """What two workers are compared by."""
        return self.epoch, self.step, PHASES.index(self.phase)

    def __str__(self) -> str:
        return f"{self.place} at epoch {self.epoch + 1}, step {self.step + 1} ({self.phase})"


class Progress:
    """Where a worker's training is. Written by its training thread, read by the thread that speaks."""

    def __init__(self, place: Place, clock: Callable[[], float] = time.monotonic) -> None:
        self.place = place
        self.clock = clock
        self.at = (0, 0, "start", clock())
        self.longest: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        """Seconds in each phase, all together."""
        self.first_step: int | None = None
        self.forwards: deque[float] = deque(maxlen=LAG_STEPS)

    def enter(self, phase: str, epoch: int, step: int) -> None:
        """Leave the phase before, and begin another; steps are those done."""
        _, _, before, since = self.at
        now = self.clock()
        spent = now - since
        if before == "forward":
            self.forwards.append(spent)
        self.spent[before] = self.spent.get(before, 0.0) + spent
        if phase == WAITING and self.first_step is None:
            self.first_step = step
        if spent > self.longest.get(before, -1.0):
            self.longest[before] = spent
        self.at = (epoch, step, phase, now)

    def arrive(self, phase: Literal["start", "fetching"]) -> None:
        """Get on in a phase before the training, where how long one took says nothing of the next time."""
        self.at = (0, 0, phase, self.clock())

    @property
    def steps(self) -> int:
        """Optimizer steps that this process has done; a training that was resumed had some before."""
        return self.at[1] - self.first_step if self.first_step is not None else 0

    def beat(self) -> Beat:
        """Return what to say now."""
        epoch, step, phase, since = self.at
        return Beat(
            place=self.place,
            epoch=epoch,
            step=step,
            phase=phase,
            still_seconds=self.clock() - since,
            limit_seconds=self._limit(phase),
            own_seconds=fmean(forwards) if len(forwards := list(self.forwards)) == LAG_STEPS else None,
        )

    def _limit(self, phase: str) -> float:
        if phase == "saving":
            return SAVING_SECONDS
        if phase == FETCHING:
            return FETCH_SECONDS
        longest = self.longest.get(phase)
        return NEW_PHASE_SECONDS if longest is None else max(LEAST_SECONDS, HANG_FACTOR * longest)


@dataclass(frozen=True, slots=True)
class Hang:
    """A worker that does not go on."""

    beat: Beat
    seconds: float
    """Since it last went on, or spoke."""
    silent: bool

    def __str__(self) -> str:
        what = "has said nothing" if self.silent else "has not gone on"
        return f"{self.beat} {what} for {self.seconds:.0f} s"


class Hearing:
    """The driver's ear: the last message of each worker, and when it came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.beats: dict[int, Beat] = {}
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._listened = clock()

    def listen(self, messages: dict[int, bytes]) -> None:
        """Take what all workers said last."""
        now = self.clock()
        # While this process itself was stopped nobody could be heard.
        gap = now - self._listened
        pause = gap if gap > LEAST_SECONDS / 4 else 0.0
        self._listened = now
        for rank, message in messages.items():
            before, heard = self._heard.get(rank, (b"", now))
            if message != before:
                self.beats[rank] = Beat.decode(message)
                self._heard[rank] = (message, now)
            elif pause:
                self._heard[rank] = (message, heard + pause)
        workers = self.beats[0].place.workers if 0 in self.beats else len(self.beats)
        for rank in [rank for rank in self.beats if rank >= workers]:
            self.forget(rank)

    def deaf(self) -> None:
        """Say that the workers could not be listened to."""
        now = self.clock()
        self._heard = {rank: (message, now) for rank, (message, _) in self._heard.items()}
        self._listened = now

    def forget(self, rank: int) -> None:
        """Expect nothing of a worker any more until it speaks again."""
        self.beats.pop(rank, None)

    def hang(self) -> Hang | None:
        """Return the worker that hangs, if one does."""
        now = self.clock()
        for rank, beat in self.beats.items():
            if beat.phase == "over":
                continue
            silence = now - self._heard[rank][1]
            if silence > SILENCE_SECONDS:
                return Hang(beat, silence, True)
        alive = [beat for beat in self.beats.values() if beat.phase != "over"]
        if not alive or any(beat.still_seconds <= beat.limit_seconds for beat in alive):
            return None
        last = min(alive, key=lambda beat: beat.progress)
        return Hang(last, last.still_seconds, False)

    def straggler(self) -> tuple[Beat, float] | None:
        """Return a worker whose own work takes several times as long as that of the others, and how many times."""
        known = {rank: beat.own_seconds for rank, beat in self.beats.items() if beat.own_seconds is not None}
        if len(known) < 2 or len(known) < len(self.beats):
            return None
        slowest = max(known, key=lambda rank: known[rank])
        others = median(seconds for rank, seconds in known.items() if rank != slowest)
        factor = known[slowest] / max(others, 1e-9)
        return (self.beats[slowest], factor) if factor >= LAG_FACTOR else None
