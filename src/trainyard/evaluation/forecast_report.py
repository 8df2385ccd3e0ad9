"""The report on a forecaster: metrics with intervals beside baselines, a table by step of the horizon, figures."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.packed import Split, SplitName
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.forecast_baselines import ForecastBaselines, run_forecast_baselines
from trainyard.evaluation.forecast_figures import error_by_step, forecast_samples
from trainyard.evaluation.forecasts import Errors, block_bootstrap, block_length, errors_of, network_forecast, scores_of
from trainyard.evaluation.intervals import Intervals, fit_intervals
from trainyard.evaluation.metrics import Floats, estimate
from trainyard.evaluation.paths import ReportPaths
from trainyard.evaluation.report import PART, SCORE, worst_numbers, write_report
from trainyard.evaluation.result_columns import forecast_columns
from trainyard.evaluation.results import About, write_results
from trainyard.files import write_whole
from trainyard.models.saved import SavedModel
from trainyard.tasks.primary import PRIMARY


def report_forecasts(saved: SavedModel, splits: Mapping[SplitName, Split], about: About, paths: ReportPaths) -> dict[str, Any]:
    """Score a forecaster and, where there is a training split, the baselines; write what came out of it.

    Returns:
        metrics: by name.
        baseline: what the strongest baseline is.
    """
    config, targets = saved.recipe.evaluate, saved.spec.classes
    train, test, val = splits.get("train"), splits["test"], splits.get("val")
    model = network_forecast(saved.network)
    intervals = None
    if val is not None and config.interval is not None:
        intervals = fit_intervals(model, val, config.interval, config.batch_size)
    errors = errors_of(model, test, config.batch_size, intervals.half if intervals else None)
    baselines = None if train is None else run_forecast_baselines(train, test, config.season, config.batch_size)
    metrics = forecast_metrics(errors, baselines, test, targets, config)
    if intervals is not None:
        metrics["test/interval_width"] = float(2 * intervals.half.mean())
    write_by_step(paths.per_class, errors, baselines, test, targets)
    description = baselines.description if baselines else None
    parts = {"metrics": metrics, "intervals": _intervals_part(intervals)}
    write_report(paths.report, about, len(test), description, parts)
    columns = forecast_columns(errors)
    write_results(paths.results, replace(about, block=int(metrics["test/bootstrap_block"])), test, columns)
    worst_numbers(paths.worst, test, columns["mse"], {name: columns[name] for name in ("mse", "mae")})
    best, folder = baselines.forecast if baselines else None, paths.figures
    forecast_samples(test, model, best, intervals, targets, config.shown_samples, folder / "forecasts.png")
    error_by_step(errors, baselines.errors if baselines else {}, description or "", folder / "error_by_step.png")
    return {"metrics": metrics, "baseline": description}


def _intervals_part(intervals: Intervals | None) -> dict[str, Any] | None:
    """Return half widths (H, D), standardised, for the share that they are to hold."""
    if intervals is None:
        return None
    return {"share": intervals.share, "validation_windows": intervals.windows, "half_width": intervals.half.tolist()}


def forecast_metrics(
    errors: Errors, baselines: ForecastBaselines | None, test: Split, targets: tuple[str, ...], config: EvaluateConfig
) -> dict[str, float]:
    """Return MSE and MAE with intervals, the MAE of each target in its own unit, and how far the model is from baselines.

    The interval of the difference comes from the same resamples for both; below 0 the model is better.
    """
    block = block_length(test, _stride(test))
    metrics, resampled = _with_intervals("test", errors, block, config)
    metrics |= {f"test/{name}": value for name, value in raw_mae(errors, test, targets).items()}
    metrics["test/bootstrap_block"] = float(block)
    if baselines is not None:
        best = baselines.errors[baselines.best]
        others, others_resampled = _with_intervals("baseline", best, block, config)
        primary = PRIMARY["forecasting"]
        gain = metrics[f"test/{primary}"] - others[f"baseline/{primary}"]
        difference = estimate(gain, resampled[primary] - others_resampled[primary])
        metrics |= others
        name = f"test/{primary}_minus_baseline"
        metrics |= {name: difference.value, f"{name}_low": difference.low, f"{name}_high": difference.high}
        for baseline, found in baselines.errors.items():
            metrics |= {f"baseline/{baseline}_{metric}": value for metric, value in scores_of(found).items()}
        metrics["baseline/seconds"] = round(baselines.seconds, 2)
    return metrics


def raw_mae(errors: Errors, split: Split, targets: tuple[str, ...]) -> dict[str, float]:
    """Return the MAE of each target in its own unit, by a name that every tracker takes."""
    found: dict[str, float] = {}
    for number, (target, value) in enumerate(zip(targets, _in_units(errors.absolute.mean(axis=0), split), strict=True)):
        name = f"raw_mae/{re.sub(r'[^A-Za-z0-9_.-]', '_', target)}"
        # Two targets may differ in signs alone that no name can hold.
        found[name if name not in found else f"{name}_{number}"] = float(value)
    return found


def write_by_step(
    path: Path, errors: Errors, baselines: ForecastBaselines | None, split: Split, targets: tuple[str, ...]
) -> None:
    """Write one row a step of the horizon: model and best baseline, standardised; each target in its own unit; the score."""
    columns = {"mse": errors.squared_by_step.mean(axis=1), "mae": errors.absolute_by_step.mean(axis=1)}
    if baselines is not None:
        best = baselines.errors[baselines.best]
        columns["baseline_mse"] = best.squared_by_step.mean(axis=1)
        columns["baseline_mae"] = best.absolute_by_step.mean(axis=1)
    if errors.covered_by_step is not None:
        columns["coverage"] = errors.covered_by_step.mean(axis=1)
    raw = _in_units(errors.absolute_by_step, split)
    columns |= {f"raw_mae {target}": raw[:, number] for number, target in enumerate(targets)}
    columns[SCORE] = columns[PRIMARY["forecasting"]]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([PART, *columns])
    for step in range(len(raw)):
        writer.writerow([step + 1, *(f"{values[step]:.6g}" for values in columns.values())])
    write_whole(path, text.getvalue().encode())


def _with_intervals(
    prefix: str, errors: Errors, block: int, config: EvaluateConfig
) -> tuple[dict[str, float], dict[str, Floats]]:
    resampled = block_bootstrap(errors, block, config.bootstrap_samples, config.seed)
    found: dict[str, float] = {}
    for metric, value in scores_of(errors).items():
        interval = estimate(value, resampled[metric])
        name = f"{prefix}/{metric}"
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found, resampled


def _in_units(errors: Floats, split: Split) -> Floats:
    """Return errors (..., D) in the targets' own units."""
    scaled: Floats = errors * split.arrays["std"][: errors.shape[-1]]
    return scaled


def _stride(split: Split) -> int:
    """Return the usual steps between two windows."""
    starts = split.arrays["starts"]
    return int(np.median(np.diff(starts))) if len(starts) > 1 else 1
