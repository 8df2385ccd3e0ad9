"""How far forecasts are from what came: by window, by target and by step of the horizon, with bootstrap intervals.

Errors are in standard deviations of the training split, the unit in which benchmarks compare, unless named raw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.data.batches import eval_batches
from trainyard.data.packed import Split
from trainyard.evaluation.metrics import Floats, resampled_means

Forecast = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Context (N, context_length, F), standardised, targets first, to the forecast (N, horizon, D)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of the forecasts of N windows, standardised."""

    squared: Floats
    """(N, D) mean over the horizon."""
    absolute: Floats
    """(N, D) mean over the horizon."""
    squared_by_step: Floats
    """(H, D) mean over the windows."""
    absolute_by_step: Floats
    """(H, D) mean over the windows."""
    covered: Floats | None = None
    """(N, D) share of the horizon within the intervals; None where there are none."""
    covered_by_step: Floats | None = None
    """(H, D) share of the windows within the intervals."""


def network_forecast(network: nn.Module) -> Forecast:
    """Return the forecast that a network makes, in fp32."""
    network.eval()

    def forecast(context: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths = torch.full((len(context),), context.shape[1])
        with torch.inference_mode():
            found: NDArray[np.float32] = network(torch.from_numpy(context), lengths).float().numpy()
        return found

    return forecast


def errors_of(forecast: Forecast, split: Split, batch_size: int, half: Floats | None = None) -> Errors:
    """Compare the forecasts of a whole split with what came, batch by batch: all forecasts together may not fit.

    Args:
        forecast: to be compared.
        split: what came.
        batch_size: windows forecast at once.
        half: (H, D) half widths of the intervals around the forecasts, where there are any.
    """
    by_window: dict[str, list[Floats]] = {}
    by_step: dict[str, Floats] = {}
    for batch in eval_batches(split, batch_size):
        errors = forecast(batch.inputs[0].numpy()).astype(np.float64) - batch.targets.numpy()
        found = {"squared": errors**2, "absolute": np.abs(errors)}
        if half is not None:
            found["covered"] = (found["absolute"] <= half).astype(np.float64)
        for name, values in found.items():
            by_window.setdefault(name, []).append(values.mean(axis=1))
            by_step[name] = by_step.get(name, np.zeros(())) + values.sum(axis=0)
    return Errors(
        **{name: np.concatenate(parts) for name, parts in by_window.items()},
        **{f"{name}_by_step": total / len(split) for name, total in by_step.items()},
    )


def scores_of(errors: Errors) -> dict[str, float]:
    """Return MSE, MAE and, where there are intervals, their coverage, over all windows, steps and targets."""
    return {name: float(values.mean()) for name, values in _by_window(errors).items()}


def _by_window(errors: Errors) -> dict[str, Floats]:
    """Return what is averaged over the windows (N,), by the name of its mean."""
    known = {"mse": errors.squared, "mae": errors.absolute, "coverage": errors.covered}
    return {name: values.mean(axis=1) for name, values in known.items() if values is not None}


def block_length(split: Split, stride: int) -> int:
    """Return how many windows a block of the bootstrap holds: as many as share a step with one another.

    Never more than half of the windows, or every resample would be much the same.
    """
    steps = int(split.arrays["window"][:2].sum())
    return max(1, min(-(-steps // stride), len(split) // 2))


def block_bootstrap(errors: Errors, block: int, resamples: int, seed: int) -> dict[str, Floats]:
    """Return each mean over the windows on each resample of them (resamples,).

    The draws depend on (seed, N, block) alone, so two models can be compared on each resample.
    """
    return resampled_means(_by_window(errors), block, resamples, seed)
