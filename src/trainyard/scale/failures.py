"""A training that fails at random moments, event by event: what the formulas of `interval` are held against."""

from __future__ import annotations

import math
from random import Random

from trainyard.scale.interval import Saving


def simulate(work: float, interval: float, costs: Saving, between_failures: float, random: Random) -> float:
    """Return the seconds that so many seconds of work took, in one life of failures.

    Work is done in pieces of `interval`, each followed by a stall. A failure takes the training back to the last checkpoint
    that was written wholly, and can also strike while it restarts.
    """
    now, failure = 0.0, random.expovariate(1 / between_failures)
    relied = taken = 0  # pieces whose checkpoint is written; pieces that are done
    written = math.inf  # when the newest checkpoint will be
    pieces = math.ceil(work / interval)
    while relied < pieces:
        # The last piece is at its end when its checkpoint is written.
        done = now + interval + costs.stall if taken < pieces else math.inf
        event = min(done, written)
        if failure < event:
            now, failure = _restart(failure, costs.restart, between_failures, random)
            taken, written = relied, math.inf
        elif written <= done:
            now_written = written
            relied, written = taken, math.inf
            if taken == pieces:
                now = now_written
        else:
            now, taken, written = done, taken + 1, done + costs.write
            if not costs.write:
                relied, written = taken, math.inf
    return now * work / (pieces * interval)


def _restart(now: float, seconds: float, between_failures: float, random: Random) -> tuple[float, float]:
    """Return when a restart succeeds, and when the next failure comes."""
    while (failure := now + random.expovariate(1 / between_failures)) < now + seconds:
        now = failure
    return now + seconds, failure
