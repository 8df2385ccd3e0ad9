"""How often to save: what checkpoints cost, against what a failure costs without them (Young 1974, Daly 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What it costs to be able to continue, in seconds."""

    stall: float
    """For which a checkpoint stops the training: the copy of the state, and also the write unless that runs beside it."""
    write: float = 0.0
    """How long after that it takes until the checkpoint can be relied on; the training goes on meanwhile."""
    restart: float
    """From a failure to the first step."""


def saving(state_bytes: float, copy_rate: float, write_rate: float, restart: float, *, beside: bool) -> Saving:
    """Return the costs of a state of so many bytes, at bytes per second, written beside the training or while it waits."""
    copied, written = state_bytes / copy_rate, state_bytes / write_rate
    return Saving(stall=copied if beside else copied + written, write=written if beside else 0.0, restart=restart)


def young(stall: float, between_failures: float) -> float:
    """Return the seconds of work between checkpoints, to first order: sqrt(2 d M) (Young 1974, CACM 17(9))."""
    return math.sqrt(2 * stall * between_failures)


def daly(stall: float, between_failures: float) -> float:
    """Return Daly's estimate of higher order (2006, Future Generation Computer Systems 22(3))."""
    if stall >= 2 * between_failures:
        return between_failures
    x = stall / (2 * between_failures)
    return young(stall, between_failures) * (1 + math.sqrt(x) / 3 + x / 9) - stall


def best(stall: float, between_failures: float) -> float:
    """Return the interval at which `expected_seconds` is least.

    Its derivative is zero where (1 - t / M) exp((t + d) / M) = 1. Newton's method, from Young's estimate, which lies above.
    """
    ratio = stall / between_failures
    x = min(math.sqrt(2 * ratio), 1 - 1e-9)
    for _ in range(100):
        # With x = t / M, the logarithm: ln(1 - x) + x + d / M = 0, which falls and bends down.
        x = max(x + (math.log1p(-x) + x + ratio) * (1 - x) / x, 1e-12)
    return x * between_failures


def expected_seconds(work: float, interval: float, costs: Saving, between_failures: float) -> float:
    """Return how long so many seconds of work take, where failures come at random (Daly 2006).

    A checkpoint that is written beside the training can be relied on only `write` seconds later. That costs as much as if a
    restart took so much longer: see docs/performance.md.
    """
    mean = between_failures
    after = math.exp((costs.restart + costs.write) / mean)
    return mean * after * math.expm1((interval + costs.stall) / mean) * work / interval


def availability(interval: float, costs: Saving, between_failures: float) -> float:
    """Return the share of the time that is work which is not lost."""
    return 1 / expected_seconds(1.0, interval, costs, between_failures)
