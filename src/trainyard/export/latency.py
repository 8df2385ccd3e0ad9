"""How long one answer takes, and how many come in a second: onnxruntime beside eager torch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from trainyard.data.packed import Split
from trainyard.export.inputs import raw_inputs
from trainyard.export.verify import run

BATCH = 32
MOST_SECONDS = 1.5
"""For each of the four measurements."""
WARM_UP_CALLS = 3

Inputs = tuple[Tensor, ...]


def measure(session: onnxruntime.InferenceSession, network: nn.Module, split: Split, runs: int) -> dict[str, float]:
    """Return latency of batch 1 in milliseconds and throughput of batch 32 in samples/s, on real test samples."""
    one = raw_inputs(split, np.arange(1))
    many = raw_inputs(split, np.arange(min(BATCH, len(split))))

    def in_torch(inputs: Inputs) -> None:
        with torch.inference_mode():
            network(*inputs)

    onnx_one = _seconds(lambda: run(session, one), runs)
    torch_one = _seconds(lambda: in_torch(one), runs)
    onnx_many = _seconds(lambda: run(session, many), runs)
    torch_many = _seconds(lambda: in_torch(many), runs)
    return {
        "latency_p50_ms": _milliseconds(onnx_one, 50),
        "latency_p95_ms": _milliseconds(onnx_one, 95),
        "torch_latency_p50_ms": _milliseconds(torch_one, 50),
        "torch_latency_p95_ms": _milliseconds(torch_one, 95),
        "samples_per_s_batch_32": round(len(many[0]) / float(np.median(onnx_many)), 1),
        "torch_samples_per_s_batch_32": round(len(many[0]) / float(np.median(torch_many)), 1),
    }


def _seconds(call: Callable[[], object], runs: int) -> list[float]:
    """Return the seconds of each of up to `runs` calls, fewer where they would take too long."""
    for _ in range(WARM_UP_CALLS):
        call()
    found: list[float] = []
    while len(found) < runs and (len(found) < 3 or sum(found) < MOST_SECONDS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def _milliseconds(seconds: list[float], percentile: float) -> float:
    return round(float(np.percentile(seconds, percentile)) * 1000, 4)
