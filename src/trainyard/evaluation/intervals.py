"""Intervals around forecasts that hold a stated share of what comes: split conformal prediction.

Papadopoulos 2002, 10.1007/3-540-36755-1_29; Lei 2018, arXiv:1604.04173. Of each step and target, the interval is as wide as the
error that the stated share of the validation windows stays below. The theorem wants windows that could stand in any order.
Windows of a series follow one another and its habits change, so the share that really holds is counted on the test split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.evaluation.forecasts import Forecast
from trainyard.evaluation.metrics import Floats

FITTED_VALUES = 25_000_000
"""Errors held at most, in single precision: 100 MB. Of more, windows spread evenly over the split are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """An interval of equal width on both sides of a forecast."""

    half: Floats
    """(H, D) half of its width, standardised."""
    share: float
    """Of what comes that it is to hold."""
    windows: int
    """Of the validation split that it comes from."""


def fit_intervals(forecast: Forecast, val: Split, share: float, batch_size: int) -> Intervals | None:
    """Return the intervals, or None where the windows are too few to promise so large a share."""
    _, horizon, targets = (int(number) for number in val.arrays["window"])
    windows = min(len(val), max(1, FITTED_VALUES // (horizon * targets)))
    rank = math.ceil((windows + 1) * share)
    if rank > windows:
        return None
    chosen = np.linspace(0, len(val) - 1, windows).astype(np.int64)
    errors = np.empty((windows, horizon, targets), dtype=np.float32)
    for start in range(0, windows, batch_size):
        batch = gather(val, chosen[start : start + batch_size])
        errors[start : start + batch_size] = np.abs(forecast(batch.inputs[0].numpy()) - batch.targets.numpy())
    errors.partition(rank - 1, axis=0)
    return Intervals(half=errors[rank - 1].astype(np.float64), share=share, windows=windows)
