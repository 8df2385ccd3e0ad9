"""How long one answer takes, how many come in a second, and in how much memory: each format beside eager torch."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.data.packed import Split
from trainyard.export.inputs import Inputs, raw_inputs
from trainyard.export.opened import Opened

BATCH = 32
MOST_SECONDS = 0.3
"""For each format and batch size."""
WARM_UP_CALLS, WARM_UP_SECONDS = 3, 0.1
"""Whichever comes first."""
TORCH = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one format takes on this machine."""

    latency_p50_ms: float
    """Of batch 1."""
    latency_p95_ms: float
    batch_32_p50_ms: float
    """Of 32 samples, or of all where there are fewer."""
    batch_32_p95_ms: float
    samples_per_s_batch_32: float
    memory_mb: float | None
    """What the opened model and the largest moment of a call with such a batch take; None where the system does not tell."""

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return what is known, by name."""
        return {f"{prefix}{name}": value for name, value in asdict(self).items() if value is not None}


def measure(open_file: Callable[[], Opened], split: Split, runs: int) -> Speed:
    """Measure a format on real test samples; it is opened here, so that its memory is seen."""
    with PeakMemory() as memory:
        opened = open_file()
        opened.answer(_inputs(split, BATCH))
    return _speed(opened.answer, split, runs, memory.megabytes)


def measure_torch(network: nn.Module, split: Split, runs: int) -> Speed:
    """Measure the network itself, in eager mode."""

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(*inputs).numpy()
        return logits

    with PeakMemory() as memory:
        answer(_inputs(split, BATCH))
    weights = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers())) / 2**20
    return _speed(answer, split, runs, None if memory.megabytes is None else memory.megabytes + weights)


class PeakMemory:
    """Measures by how much this process grew at the most within the block, in megabytes."""

    def __init__(self) -> None:
        self.megabytes: float | None = None
        self._before: float | None = None

    def __enter__(self) -> PeakMemory:
        with suppress(OSError, AttributeError):
            # What was freed is given back first; otherwise it would be used again, unseen.
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            if self._before is not None:
                self.megabytes = round(_status("VmHWM") - self._before, 2)


def _status(key: str) -> float:
    """Return a number of megabytes that Linux says of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) / 1024
    raise OSError(f"/proc/self/status: no {key}")


def _inputs(split: Split, size: int) -> Inputs:
    return raw_inputs(split, np.arange(min(size, len(split))))


def _speed(answer: Callable[[Inputs], Any], split: Split, runs: int, memory: float | None) -> Speed:
    one, many = _inputs(split, 1), _inputs(split, BATCH)
    of_one, of_many = (_seconds(lambda some=some: answer(some), runs) for some in (one, many))  # type: ignore[misc]
    return Speed(
        latency_p50_ms=_milliseconds(of_one, 50),
        latency_p95_ms=_milliseconds(of_one, 95),
        batch_32_p50_ms=_milliseconds(of_many, 50),
        batch_32_p95_ms=_milliseconds(of_many, 95),
        samples_per_s_batch_32=round(len(many[0]) / float(np.median(of_many)), 1),
        memory_mb=memory,
    )


def _seconds(call: Callable[[], object], runs: int) -> list[float]:
    """Return the seconds of each of up to `runs` calls, fewer where they would take too long."""
    began, calls = time.perf_counter(), 0
    while calls == 0 or (calls < WARM_UP_CALLS and time.perf_counter() - began < WARM_UP_SECONDS):
        call()
        calls += 1
    found: list[float] = []
    while len(found) < runs and (len(found) < 3 or sum(found) < MOST_SECONDS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def _milliseconds(seconds: list[float], percentile: float) -> float:
    return round(float(np.percentile(seconds, percentile)) * 1000, 4)
