from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.prepare import prepare
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

MakeRecipe = Callable[..., Recipe]
IMAGES = AugmentConfig(
    shift=1, flip="horizontal", alternate_flip=True, rotate=10.0, elastic=0.5, cutout=2, brightness=0.1, contrast=0.1, noise=0.1
)
SCENES = DigitScenesConfig(source="digit_scenes", scenes=40, size=32, seed=0, val_fraction=0.2, test_fraction=0.2)


def make_job(recipe: Recipe, data_dir: Path, scratch: Path) -> FitJob:
    scratch.mkdir(exist_ok=True)
    return FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint="f")


def weights_of(job: FitJob) -> dict[str, torch.Tensor]:
    return kept_weights(job.checkpoints, job.fingerprint)[0]


def continued(recipe: Recipe, data_dir: Path, folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Return the history of a training, and that of one that lost its last epoch and trained it again."""
    whole, cut = (make_job(recipe, data_dir, folder / name) for name in ("whole", "cut"))
    expected = fit(whole).history
    shutil.copytree(whole.checkpoints, cut.checkpoints)
    shutil.rmtree(max(cut.checkpoints.iterdir()))
    result = fit(cut)
    assert result.resumed_epoch == len(expected) - 1
    first, second = weights_of(whole), weights_of(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    return expected, result.history


def kept(history: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(row["train/loss"], row["val/loss"]) for row in history]


def test_an_augmented_training_that_continues_ends_with_the_same_bits(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    expected, found = continued(make_recipe(augment=IMAGES), packed_digits, tmp_path)
    assert kept(found) == kept(expected)


def test_an_augmented_training_on_series_continues_with_the_same_bits(
    series_recipe: Recipe, packed_series: Path, tmp_path: Path
) -> None:
    train = dataclasses.replace(series_recipe.train, epochs=3, augment=AugmentConfig(jitter=0.1, scale=(0.8, 1.2)))
    expected, found = continued(dataclasses.replace(series_recipe, train=train), packed_series, tmp_path)
    assert kept(found) == kept(expected)


def test_a_unet_trains_on_crops_and_is_validated_on_whole_images(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    prepare("scenes", SCENES, tmp_path / "packed")
    recipe = make_recipe(epochs=2, batch_size=8, augment=AugmentConfig(crop=(16, 16), elastic=1.0))
    recipe = dataclasses.replace(recipe, family="unet", data=SCENES, model=UNetConfig(depth=2, base_width=4))
    seen = []
    forward = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append((module.training, *inputs[0].shape[2:])) if type(module).__name__ == "UNet" else None
    )
    with forward:
        expected, found = continued(recipe, tmp_path / "packed", tmp_path)
    assert kept(found) == kept(expected)
    assert set(seen) == {(True, 16, 16), (False, 32, 32)}


def test_pieces_of_an_augmented_batch_add_up_to_its_gradient(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    steps: dict[str, Any] = {
        "epochs": 1,
        "batch_size": "full",
        "precision": "fp32",
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "augment": IMAGES,
    }
    found = []
    for piece in (None, 100):
        recipe = make_recipe(model={"dropout": 0.0}, micro_batch_size=piece, **steps)
        job = make_job(recipe, packed_digits, tmp_path / f"s{piece}")
        fit(job)
        found.append(weights_of(job))
    assert max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0]) <= 1e-6


@pytest.mark.parametrize("augment", [IMAGES, AugmentConfig(shift=2)])
def test_what_validates_is_never_augmented(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, augment: AugmentConfig
) -> None:
    # At this rate no weight moves, so that the losses tell what went in.
    still = {"epochs": 1, "learning_rate": 1e-20, "schedule": "constant", "warmup_fraction": 0.0, "weight_decay": 0.0}
    rows = [
        fit(make_job(make_recipe(model={"dropout": 0.0}, augment=option, **still), packed_digits, tmp_path / name)).history[0]
        for option, name in ((None, "plain"), (augment, "augmented"))
    ]
    assert rows[0]["val/loss"] == rows[1]["val/loss"]
    assert rows[0]["train/loss"] != rows[1]["train/loss"]
