from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import TINY
from trainyard import timings
from trainyard.data.packed import read_card
from trainyard.errors import InputError
from trainyard.plan.calibrate import LEAST_STEPS, Measured, calibrate
from trainyard.plan.estimate import Estimate, estimate
from trainyard.plan.steps import Step, _of_param, _wanted
from trainyard.recipe import read_recipe
from trainyard.training.cluster_config import ClusterConfig

TRAIN = Step(stage="train", recipe="cnn", runs=True, reasons=("was never run",))
MEASURED = Measured(step_seconds=0.01, steps=40, forward_seconds=0.002, bytes=7, gpu_bytes=0)


@pytest.fixture
def project(tmp_path: Path, packed_digits: Path) -> Path:
    """A project whose recipe cnn is prepared."""
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    (tmp_path / "data" / "prepared" / "cnn").symlink_to(packed_digits)
    (tmp_path / "params.yaml").write_text(TINY)
    return tmp_path


def of_train(project: Path, found: Measured | str = MEASURED, workers: int = 0, seconds: float = 1.0) -> Estimate:
    recipe = read_recipe(project / "params.yaml", "cnn")
    return estimate(project, TRAIN, recipe, ClusterConfig(), workers, seconds, lambda *_: found)


def trained(project: Path, **facts: object) -> None:
    """Leave what a training of the recipe leaves."""
    recipe = read_recipe(project / "params.yaml", "cnn")
    (project / "models" / "cnn").mkdir(parents=True, exist_ok=True)
    saved = {"fingerprint": "cnn-1", "recipe": recipe.to_json()}
    (project / "models" / "cnn" / "recipe.json").write_text(json.dumps(saved))
    sha256 = read_card(project / "data" / "prepared" / "cnn").sha256
    known = {"fingerprint": "cnn-1", "data_sha256": sha256, "epochs": 6, "workers": 0, "worker_bytes": 500, **facts}
    timings.keep(project, "cnn", "train", 12.0, 3.0, known)


def test_a_recipe_that_has_not_run_is_measured(project: Path) -> None:
    found = of_train(project)
    # 1,168 samples in batches of 64 are 19 steps; 270 are validated as they pass forward in training; six epochs.
    assert found.seconds == pytest.approx(15.0 + 6 * (19 * 0.01 + 270 / 64 * 0.002))
    assert found.bytes == 7
    assert found.how == "40 steps measured: 10.0 ms; 19 steps an epoch, 6 epochs"
    assert "1/2" in of_train(project, workers=2).how


def test_what_cannot_be_measured_is_said(project: Path) -> None:
    assert of_train(project, "out of memory").how == "the calibration failed: out of memory"
    assert of_train(project, seconds=0).seconds is None
    (project / "data" / "prepared" / "cnn").unlink()
    assert of_train(project).how == "needs its data first: dvc repro prepare@cnn"


def test_the_last_time_of_the_same_steps_is_taken_for_another_number_of_epochs(project: Path) -> None:
    trained(project)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("epochs: 6, batch_size: 64", "epochs: 10, batch_size: 64"))
    found = of_train(project, "was not to be measured")
    assert found.seconds == pytest.approx(12.0 / 6 * 10 + 3.0)
    assert found.bytes == 500
    assert "as the last time here" in found.how


@pytest.mark.parametrize("change", [("widths: [8, 16]", "widths: [8, 32]"), ("batch_size: 64", "batch_size: 32")])
def test_other_steps_are_measured_anew(project: Path, change: tuple[str, str]) -> None:
    trained(project)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace(*change))
    assert "steps measured" in of_train(project).how


def test_other_workers_are_measured_anew(project: Path) -> None:
    trained(project)
    assert "steps measured" in of_train(project, workers=2).how


def test_real_steps_are_measured_and_leave_nothing(project: Path, packed_digits: Path) -> None:
    before = sorted(project.rglob("*"))
    found = calibrate(project, "cnn", packed_digits, 1, 1, 0.1)
    assert isinstance(found, Measured), found
    assert found.steps >= LEAST_STEPS
    assert 0 < found.forward_seconds < found.step_seconds
    assert found.bytes > 50e6
    assert sorted(project.rglob("*")) == before


def test_a_calibration_that_fails_says_why(project: Path, packed_digits: Path) -> None:
    said = calibrate(project, "dogs", packed_digits, 1, 1, 0.1)
    assert isinstance(said, str) and "dogs" in said


def test_parameters_are_told_key_by_key() -> None:
    was = {"rate": 0.1, "augment": {"flip": "both"}, "gone": 1}
    now = {"rate": 0.2, "augment": {"flip": "none"}, "new": 2}
    assert _of_param("train", was, now) == [
        "train.rate: 0.1 -> 0.2",
        'train.augment.flip: "both" -> "none"',
        "train.new: (left out) -> 2",
        "train.gone: 1 -> (left out)",
    ]


def test_targets_bring_what_they_need_with_them() -> None:
    recipes = ["cnn", "unet"]
    assert _wanted(recipes, []) == {"cnn": 5, "unet": 5}
    assert _wanted(recipes, ["evaluate@unet"]) == {"unet": 3}
    assert _wanted(recipes, ["train"]) == {"cnn": 2, "unet": 2}
    assert _wanted(recipes, ["cnn", "prepare@unet"]) == {"cnn": 5, "unet": 1}
    with pytest.raises(InputError, match="trian@cnn: no such stage or recipe; there are prepare"):
        _wanted(recipes, ["trian@cnn"])
