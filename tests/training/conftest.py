"""Small jobs of each family, for gangs of workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.s3 import S3Server

from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.prepare import prepare
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.train_config import EmaConfig, TrainConfig
from trainyard.training.job import FitJob

MakeRecipe = Callable[..., Recipe]
Build = Callable[..., FitJob]
SCENES = DigitScenesConfig(source="digit_scenes", scenes=60, size=32, seed=0, val_fraction=0.2, test_fraction=0.2)
EVERY = 3
"""Steps between two checkpoints within an epoch."""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """An object store, for all tests of a module."""
    with S3Server() as started:
        started.make_bucket("bucket")
        yield started


@pytest.fixture(scope="session")
def packed_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of digits with their masks, packed."""
    folder = tmp_path_factory.mktemp("scenes") / "packed"
    prepare("scenes", SCENES, folder)
    return folder


@pytest.fixture
def build(
    make_recipe: MakeRecipe,
    series_recipe: Recipe,
    packed_digits: Path,
    packed_series: Path,
    packed_scenes: Path,
    tmp_path: Path,
) -> Build:
    """Return a function that makes a job of a family, with what it has of batch normalisation, dropout of all kinds,
    augmentation, deep supervision and averaged weights.
    """

    def make(family: str, name: str, every: int | None = EVERY, folder: Path = tmp_path, **train: Any) -> FitJob:
        match family:
            case "cnn":
                recipe = make_recipe(
                    {"normalisation": "batch"}, epochs=2, batch_size=128, augment=AugmentConfig(shift=1, brightness=0.1)
                )
                data = packed_digits
            case "unet":
                recipe = Recipe(
                    name="scenes",
                    family="unet",
                    data=SCENES,
                    model=UNetConfig(depth=2, base_width=4, dropout=0.1, deep_supervision=1),
                    train=TrainConfig(
                        epochs=2,
                        batch_size=5,
                        optimizer="sgd",
                        momentum=0.9,
                        learning_rate=0.01,
                        loss="cross_entropy_dice",
                        augment=AugmentConfig(rotate=10.0, flip="horizontal"),
                        ema=EmaConfig(decay=0.9),
                    ),
                    evaluate=EvaluateConfig(),
                    export=ExportConfig(),
                )
                data = packed_scenes
            case _:
                dropouts = {"dropout": 0.2, "embedding_dropout": 0.1, "variational_dropout": True, "recurrent_dropout": 0.2}
                model = dataclasses.replace(series_recipe.model, **dropouts)  # type: ignore[arg-type]
                trained = dataclasses.replace(series_recipe.train, epochs=2, batch_size=96, augment=AugmentConfig(jitter=0.1))
                recipe = dataclasses.replace(series_recipe, model=model, train=trained)
                data = packed_series
        recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **train))
        return FitJob(recipe=recipe, data_dir=data, scratch_dir=folder / name, fingerprint="f", checkpoint_steps=every)

    return make
