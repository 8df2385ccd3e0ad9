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
from trainyard.evaluation.metrics import Floats

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


def network_forecast(network: nn.Module) -> Forecast:
    """Return the forecast that a network makes, in fp32."""
    network.eval()

    def forecast(context: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths = torch.full((len(context),), context.shape[1])
        with torch.inference_mode():
            found: NDArray[np.float32] = network(torch.from_numpy(context), lengths).float().numpy()
        return found

    return forecast


def errors_of(forecast: Forecast, split: Split, batch_size: int) -> Errors:
    """Compare the forecasts of a whole split with what came, batch by batch: all forecasts together may not fit."""
    squared, absolute = [], []
    by_step: list[Floats] = [np.zeros(()), np.zeros(())]
    for batch in eval_batches(split, batch_size):
        errors = forecast(batch.inputs[0].numpy()).astype(np.float64) - batch.targets.numpy()
        squared.append((errors**2).mean(axis=1))
        absolute.append(np.abs(errors).mean(axis=1))
        by_step = [by_step[0] + (errors**2).sum(axis=0), by_step[1] + np.abs(errors).sum(axis=0)]
    return Errors(
        squared=np.concatenate(squared),
        absolute=np.concatenate(absolute),
        squared_by_step=by_step[0] / len(split),
        absolute_by_step=by_step[1] / len(split),
    )


def scores_of(errors: Errors) -> dict[str, float]:
    """Return MSE and MAE over all windows, steps and targets."""
    return {"mse": float(errors.squared.mean()), "mae": float(errors.absolute.mean())}


def block_length(split: Split, stride: int) -> int:
    """Return how many windows a block of the bootstrap holds: as many as share a step with one another.

    Never more than half of the windows, or every resample would be much the same.
    """
    steps = int(split.arrays["window"][:2].sum())
    return max(1, min(-(-steps // stride), len(split) // 2))


def block_bootstrap(errors: Errors, block: int, resamples: int, seed: int) -> dict[str, Floats]:
    """Return MSE and MAE (resamples,) on each resample of the windows.

    Circular block bootstrap (Politis and Romano 1992): windows that follow one another share steps, so they are drawn in
    runs of `block` windows, the first behind the last. Drawing single windows would make the interval far too narrow.
    The draws depend on (seed, N, block) alone, so two models can be compared on each resample.
    """
    table = np.stack([errors.squared.mean(axis=1), errors.absolute.mean(axis=1)], axis=1)
    windows = len(table)
    summed = np.concatenate([np.zeros((1, 2)), np.cumsum(np.concatenate([table, table[:block]]), axis=0)])
    of_block = summed[block : block + windows] - summed[:windows]
    rng = np.random.Generator(np.random.Philox(key=[seed, windows]))
    blocks = -(-windows // block)
    means = np.stack([of_block[rng.integers(windows, size=blocks)].sum(axis=0) for _ in range(resamples)])
    means /= blocks * block
    return {"mse": means[:, 0], "mae": means[:, 1]}
