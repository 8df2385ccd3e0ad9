"""Forecasts without a network, which it must beat to be worth its cost.

naive            the last value goes on (the best there is for a random walk)
seasonal naive   the last season goes on
linear           ridge regression of each target's steps on its own context, both less the last value; with the sum over
                 seasons and trends that DLinear learns by gradient (Zeng 2022, arXiv:2205.13504), solved exactly
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.evaluation.forecasts import Errors, Forecast, errors_of, scores_of

THREADS = 2
"""Of the numerical libraries, so that a baseline takes no more of a shared machine than it must."""
LINEAR_VALUES = 20_000_000
"""Numbers, over all training windows, that the regression of a target sees at most: 160 MB."""
RIDGE = 1.0
"""Penalty on the squared weights, which keeps the regression solvable where columns of the context are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBaselines:
    """The errors of all baselines, and the one with the lowest MSE on the test split."""

    errors: dict[str, Errors]
    """By name: naive, seasonal_naive (where the context holds a season), linear."""
    best: str
    forecast: Forecast
    """Of the best one."""
    description: str
    """What the best one is, and which others there were."""
    seconds: float
    """Of fitting and forecasting all."""


def run_forecast_baselines(train: Split, test: Split, season: int, batch_size: int) -> ForecastBaselines:
    """Fit and score every baseline."""
    from threadpoolctl import threadpool_limits

    began = time.monotonic()
    context, horizon, targets = (int(number) for number in test.arrays["window"])
    forecasts = {"naive": naive(horizon, targets)}
    if season <= context:
        forecasts["seasonal_naive"] = seasonal_naive(season, horizon, targets)
    with threadpool_limits(THREADS):
        forecasts["linear"] = fit_linear(train)
        errors = {name: errors_of(forecast, test, batch_size) for name, forecast in forecasts.items()}
    scores = {name: scores_of(found)["mse"] for name, found in errors.items()}
    best = min(scores, key=lambda name: scores[name])
    words = {"naive": "naive: last value", "seasonal_naive": f"seasonal naive: last {season} steps", "linear": "linear ridge"}
    others = ", ".join(f"{words[name]} {scores[name]:.3f}" for name in scores if name != best)
    return ForecastBaselines(
        errors=errors,
        best=best,
        forecast=forecasts[best],
        description=f"{words[best]}, the lowest MSE of {len(scores)} ({others})",
        seconds=time.monotonic() - began,
    )


def naive(horizon: int, targets: int) -> Forecast:
    """Return the forecast that repeats the last value."""
    return lambda context: np.repeat(context[:, -1:, :targets], horizon, axis=1)


def seasonal_naive(season: int, horizon: int, targets: int) -> Forecast:
    """Return the forecast that repeats the last season."""
    steps = np.arange(horizon) % season - season
    return lambda context: context[:, steps, :targets]


def fit_linear(train: Split) -> Forecast:
    """Return the forecast of a ridge regression on the windows of the training split, each target by itself."""
    context, horizon, targets = (int(number) for number in train.arrays["window"])
    starts, values = train.arrays["starts"], train.arrays["values"]
    windows = min(len(starts), max(1, LINEAR_VALUES // (context + horizon)))
    chosen = starts[np.linspace(0, len(starts) - 1, windows).astype(np.int64)]
    rows = chosen[:, None] + np.arange(context + horizon)
    weights = np.stack([_ridge(np.asarray(values[:, target])[rows], context) for target in range(targets)])

    def forecast(seen: NDArray[np.float32]) -> NDArray[np.float32]:
        last = seen[:, -1:, :targets]
        change = np.einsum("ntd,dth->nhd", seen[:, :, :targets] - last, weights[:, :-1], optimize=True) + weights[:, -1].T
        found: NDArray[np.float32] = (change + last).astype(np.float32)
        return found

    return forecast


def _ridge(series: NDArray[np.float32], context: int) -> NDArray[np.float64]:
    """Return weights and, last, the constant (context + 1, horizon) of windows (N, context + horizon)."""
    change = (series - series[:, context - 1 : context]).astype(np.float64)
    seen = np.concatenate([change[:, :context], np.ones((len(series), 1))], axis=1)
    penalty = RIDGE * np.eye(context + 1)
    penalty[-1, -1] = 1e-9
    found: NDArray[np.float64] = np.linalg.solve(seen.T @ seen + penalty, seen.T @ change[:, context:])
    return found
