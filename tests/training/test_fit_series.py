from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from trainyard.data.packed import open_split, read_card
from trainyard.errors import InputError
from trainyard.evaluation.forecast_baselines import naive
from trainyard.evaluation.forecasts import errors_of, network_forecast, scores_of
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob


def job_of(recipe: Recipe, data: Path, scratch: Path) -> FitJob:
    scratch.mkdir(exist_ok=True)
    return FitJob(recipe=recipe, data_dir=data, scratch_dir=scratch, fingerprint="f")


@pytest.mark.parametrize(("loss", "residual"), [("mse", "last"), ("mae", "none")])
def test_a_fit_learns_a_wave_on_a_slope(
    series_recipe: Recipe, packed_series: Path, tmp_path: Path, loss: str, residual: str
) -> None:
    train = dataclasses.replace(series_recipe.train, loss=loss)  # type: ignore[arg-type]
    model = dataclasses.replace(series_recipe.model, residual=residual)  # type: ignore[call-arg]
    job = job_of(dataclasses.replace(series_recipe, train=train, model=model), packed_series, tmp_path / "s")
    history = fit(job).history
    assert history[-1]["val/loss"] == pytest.approx(history[-1][f"val/{loss}"], rel=1e-5)
    weights, facts = kept_weights(job.checkpoints, "f")
    assert history[facts.epoch]["val/mse"] == min(values["val/mse"] for values in history) == -facts.score
    network = build_network(model, InputSpec.from_card(read_card(packed_series)))
    network.load_state_dict(weights)
    test = open_split(packed_series, "test")
    found = scores_of(errors_of(network_forecast(network), test, 64))
    assert found["mse"] < 0.3 * scores_of(errors_of(naive(12, 2), test, 64))["mse"]


def test_training_ends_when_the_error_no_longer_falls(series_recipe: Recipe, packed_series: Path, tmp_path: Path) -> None:
    # The forecast is the naive one at the beginning, and at this rate it hardly moves, but downwards.
    slow = dataclasses.replace(series_recipe.train, learning_rate=1e-5, early_stopping_patience=1, epochs=3)
    history = fit(job_of(dataclasses.replace(series_recipe, train=slow), packed_series, tmp_path / "s")).history
    errors = [values["val/mse"] for values in history]
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)
    wild = dataclasses.replace(series_recipe.train, learning_rate=2.0, schedule="constant", early_stopping_patience=1, epochs=9)
    history = fit(job_of(dataclasses.replace(series_recipe, train=wild), packed_series, tmp_path / "w")).history
    errors = [values["val/mse"] for values in history]
    assert len(errors) < 9 and errors[-1] >= errors[-2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "cross_entropy"}, "train.loss: cross_entropy needs classes"),
        ({"class_weights": "balanced"}, "train.class_weights: balanced needs classes"),
    ],
)
def test_what_needs_classes_is_refused_for_series(
    series_recipe: Recipe, packed_series: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    train = dataclasses.replace(series_recipe.train, **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        fit(job_of(dataclasses.replace(series_recipe, train=train), packed_series, tmp_path / "s"))


def test_absolute_errors_are_refused_for_classes(series_recipe: Recipe, packed_digits: Path) -> None:
    from trainyard.tasks.build import build_task

    with pytest.raises(InputError, match=r"train.loss: mae is the error of numbers, but the data are for image_class"):
        build_task(torch.nn.Linear(1, 1), read_card(packed_digits), dataclasses.replace(series_recipe.train, loss="mae"), 1)
