from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.data.packed import Split, open_split, read_card
from trainyard.evaluation.evaluate import evaluate
from trainyard.evaluation.forecast_baselines import fit_linear, naive, run_forecast_baselines, seasonal_naive
from trainyard.evaluation.forecast_report import raw_mae
from trainyard.evaluation.forecasts import Errors, block_bootstrap, block_length, errors_of, network_forecast, scores_of
from trainyard.evaluation.intervals import fit_intervals
from trainyard.evaluation.paths import ReportPaths
from trainyard.models.build import build_network
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe


def windows(values: np.ndarray[tuple[int, int], np.dtype[np.float64]], context: int, horizon: int, targets: int) -> Split:
    arrays = {
        "values": values.astype(np.float32),
        "starts": np.arange(len(values) - context - horizon + 1),
        "window": np.array([context, horizon, targets]),
        "mean": np.zeros(values.shape[1]),
        "std": np.full(values.shape[1], 2.0),
    }
    return Split("forecasting", "test", arrays)


def test_errors_are_those_of_a_loop_over_the_windows() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3))
    found = errors_of(naive(2, 2), windows(values, 4, 2, 2), batch_size=7)
    differences = np.array([values[start + 3, :2] - values[start + 4 : start + 6, :2] for start in range(35)])
    assert found.squared == pytest.approx((differences**2).mean(axis=1), rel=1e-5)
    assert found.absolute_by_step == pytest.approx(np.abs(differences).mean(axis=0), rel=1e-5)
    assert scores_of(found) == pytest.approx({"mse": (differences**2).mean(), "mae": np.abs(differences).mean()}, rel=1e-5)


def test_a_season_that_repeats_is_forecast_exactly() -> None:
    values = np.tile(np.arange(6.0), 10)[:, None]
    split = windows(values, 8, 15, 1)
    assert scores_of(errors_of(seasonal_naive(6, 15, 1), split, 9))["mse"] == 0
    assert scores_of(errors_of(naive(15, 1), split, 9))["mse"] > 1


def test_the_linear_forecast_finds_a_linear_rule() -> None:
    # Each value is a sum of the two before it, with weights that a ridge regression must find.
    values = [1.0, 0.9]
    for _ in range(300):
        values.append(1.8 * values[-1] - 0.99 * values[-2])
    series = np.stack([np.array(values), np.random.default_rng(0).normal(size=302)], axis=1)
    series[:, 0] /= series[:, 0].std()
    split = windows(series, 6, 3, 1)
    assert scores_of(errors_of(fit_linear(split), split, 50))["mse"] < 1e-3
    assert scores_of(errors_of(naive(3, 1), split, 50))["mse"] > 0.1


def test_the_strongest_baseline_stands_and_a_season_longer_than_the_context_is_left_out(packed_series: Path) -> None:
    train, test = open_split(packed_series, "train"), open_split(packed_series, "test")
    found = run_forecast_baselines(train, test, 24, 64)
    scores = {name: scores_of(errors)["mse"] for name, errors in found.errors.items()}
    assert list(scores) == ["naive", "seasonal_naive", "linear"]
    assert scores[found.best] == min(scores.values()) and found.best == "linear"
    assert found.description.startswith("linear ridge, the lowest MSE of 3 (naive: last value ")
    assert list(run_forecast_baselines(train, test, 25, 64).errors) == ["naive", "linear"]


def errors(squared: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Errors:
    return Errors(squared=squared, absolute=np.sqrt(squared), squared_by_step=squared[:3], absolute_by_step=squared[:3])


def test_blocks_of_equal_windows_give_a_wider_interval_than_single_windows() -> None:
    # Runs of 20 windows with the same error tell as much as one: 1/20 of the windows, an interval sqrt(20) times as wide.
    runs = np.repeat(np.random.default_rng(0).exponential(size=50), 20)[:, None]
    single = block_bootstrap(errors(runs), 1, 2000, 0)["mse"]
    blocks = block_bootstrap(errors(runs), 20, 2000, 0)["mse"]
    assert blocks.mean() == pytest.approx(runs.mean(), rel=0.02)
    assert 3.0 < blocks.std() / single.std() < 5.0


def test_single_windows_give_the_usual_standard_error() -> None:
    values = np.random.default_rng(0).exponential(size=(400, 1))
    found = block_bootstrap(errors(values), 1, 4000, 0)["mse"]
    assert found.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_a_block_holds_the_windows_that_share_steps() -> None:
    split = windows(np.zeros((300, 1)), 20, 10, 1)
    assert block_length(split, 1) == 30
    assert block_length(split, 4) == 8
    assert block_length(windows(np.zeros((40, 1)), 20, 10, 1), 1) == 5


def test_targets_whose_names_differ_in_signs_alone_keep_their_own_metric() -> None:
    split = windows(np.zeros((40, 2)), 4, 2, 2)
    found = raw_mae(errors(np.array([[1.0, 4.0]] * 5)), split, ("°C", "%C"))
    assert found == {"raw_mae/_C": 2.0, "raw_mae/_C_1": 4.0}


def test_the_report_compares_model_and_baselines(series_recipe: Recipe, packed_series: Path, tmp_path: Path) -> None:
    spec = InputSpec.from_card(read_card(packed_series))
    torch.manual_seed(0)
    saved = SavedModel(build_network(series_recipe.model, spec), series_recipe, spec, "f")
    history = tmp_path / "history.csv"
    history.write_text("epoch,train/loss,val/loss,val/mse\n1,2,2,2\n2,1,1,1\n3,1,3,3\n")
    paths = ReportPaths.within(tmp_path / "report")
    found = evaluate(saved, packed_series, history, paths)
    metrics = json.loads(paths.metrics.read_text())
    assert metrics == found.metrics
    # An untrained network with the residual is the naive forecast, so the linear one is far better.
    assert metrics["test/mse"] == pytest.approx(metrics["baseline/naive_mse"], rel=1e-5)
    assert metrics["baseline/mse"] == metrics["baseline/linear_mse"] < metrics["baseline/seasonal_naive_mse"]
    assert 0 < metrics["test/mse_minus_baseline_low"] < metrics["test/mse_minus_baseline"]
    assert metrics["test/mse_low"] < metrics["test/mse"] < metrics["test/mse_high"]
    standardised = errors_of(network_forecast(saved.network), open_split(packed_series, "test"), 64).absolute[:, 0].mean()
    assert metrics["test/raw_mae/load"] == pytest.approx(standardised * spec.std[0])
    rows = list(csv.DictReader(paths.per_class.open()))
    assert [row["part"] for row in rows] == [str(step) for step in range(1, 13)]
    assert np.mean([float(row["mse"]) for row in rows]) == pytest.approx(metrics["test/mse"], rel=1e-4)
    assert [row["score"] for row in rows] == [row["mse"] for row in rows]
    compared = {"mse", "mae", "baseline_mse", "baseline_mae", "coverage", "raw_mae load", "raw_mae heat"}
    assert set(rows[0]) == {"part", "score", *compared}
    assert {path.name for path in paths.figures.iterdir()} == {"forecasts.png", "error_by_step.png", "learning_curves.png"}


def test_a_report_without_baselines_stands_alone(series_recipe: Recipe, packed_series: Path, tmp_path: Path) -> None:
    spec = InputSpec.from_card(read_card(packed_series))
    alone = dataclasses.replace(series_recipe, evaluate=dataclasses.replace(series_recipe.evaluate, baseline=False))
    history = tmp_path / "history.csv"
    history.write_text("epoch,train/loss,val/loss,val/mse\n1,2,2,2\n")
    paths = ReportPaths.within(tmp_path / "report")
    found = evaluate(SavedModel(build_network(alone.model, spec), alone, spec, "f"), packed_series, history, paths)
    assert found.baseline is None and not any("baseline" in name for name in found.metrics)


def test_intervals_hold_the_share_that_they_were_made_for() -> None:
    rng = np.random.default_rng(0)
    # Steps of a random walk, whose naive forecast errs more the farther it looks ahead.
    val, test = (windows(np.cumsum(rng.normal(size=(4000, 1)), axis=0), 4, 6, 1) for _ in range(2))
    found = fit_intervals(naive(6, 1), val, 0.9, batch_size=500)
    assert found is not None
    assert (np.diff(found.half[:, 0]) > 0).all()
    # One step ahead, nine of ten steps of a standard normal are below 1.645.
    assert found.half[0, 0] == pytest.approx(1.645, rel=0.05)
    covered = errors_of(naive(6, 1), test, 300, found.half)
    assert scores_of(covered)["coverage"] == pytest.approx(0.9, abs=0.02)
    assert covered.covered_by_step is not None
    assert covered.covered_by_step[:, 0] == pytest.approx(np.full(6, 0.9), abs=0.03)


def test_intervals_are_the_quantile_of_split_conformal_prediction() -> None:
    # Nineteen windows: the smallest bound that holds 0.9 of one more is the 18th of the errors, which are 1 ... 19.
    values = np.zeros((24, 1))
    values[5:] = np.arange(1.0, 20.0)[:, None]
    split = windows(values, 4, 1, 1)
    split.arrays["starts"] = np.arange(1, 20)
    still = fit_intervals(lambda context: np.zeros((len(context), 1, 1), dtype=np.float32), split, 0.9, batch_size=5)
    assert still is not None
    assert still.half.tolist() == [[18.0]]


def test_too_few_windows_promise_no_interval() -> None:
    split = windows(np.zeros((13, 1)), 4, 2, 1)
    assert len(split) == 8
    assert fit_intervals(naive(2, 1), split, 0.9, batch_size=5) is None
