from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainyard.data.batches import TrainBatches
from trainyard.data.packed import Split, open_split
from trainyard.errors import InputError
from trainyard.models.cnn_config import CNNConfig
from trainyard.recipe import Recipe
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.train_config import TrainConfig
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.single_values import check_single_values, smallest_part


def batches(samples: int, batch_size: int, world_size: int = 1, micro_batches: int = 1) -> TrainBatches:
    arrays = {"images": np.zeros((samples, 1, 4, 4), dtype=np.uint8), "labels": np.zeros(samples, dtype=np.int64)}
    split = Split("image_classification", "train", arrays)
    return TrainBatches(split, batch_size=batch_size, seed=0, world_size=world_size, micro_batches=micro_batches)


def config(**options: Any) -> TrainConfig:
    return TrainConfig(epochs=1, batch_size=4, optimizer="sgd", learning_rate=0.1, **options)


class Tiny(torch.nn.Module):
    """Pixels of an image, halved so often, then normalised."""

    def __init__(self, halvings: int) -> None:
        super().__init__()
        self.pool = torch.nn.AvgPool2d(2**halvings)
        self.normalise = torch.nn.BatchNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.normalise(self.pool(images.float() + torch.rand(())))
        return found


@pytest.mark.parametrize(
    ("samples", "batch_size", "workers", "micro_batches", "fewest"),
    [(33, 32, 1, 1, 1), (34, 32, 1, 1, 2), (64, 32, 1, 1, 32), (64, 32, 3, 1, 10), (65, 32, 2, 1, 1), (8, 100, 1, 4, 2)],
)
def test_the_fewest_samples_of_a_pass_are_those_of_the_last_batch_cut_like_the_others(
    samples: int, batch_size: int, workers: int, micro_batches: int, fewest: int
) -> None:
    asked = batches(samples, batch_size, workers, micro_batches)
    assert smallest_part(asked) == fewest
    assert min(len(batch.indices) for batch in asked) >= fewest


def test_one_sample_of_one_pixel_is_refused_before_the_first_step_and_the_network_stays_as_it_is() -> None:
    network = Tiny(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=r"5 samples in batches of 4, leave one sample alone.*; use another train.batch_size"):
        check_single_values(network, batches(5, 4), config())
    with pytest.raises(InputError, match=r"batches of 4, cut into 4, leave"):
        check_single_values(network, batches(8, 4, world_size=2, micro_batches=2), config())
    with pytest.raises(InputError, match="leave one sample alone"):
        check_single_values(Tiny(1), batches(5, 4), config(augment=AugmentConfig(crop=(2, 2))))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_two_samples_or_two_pixels_are_enough() -> None:
    check_single_values(Tiny(2), batches(6, 4), config())
    check_single_values(Tiny(1), batches(5, 4), config())


def test_workers_that_normalise_together_have_more_than_one_sample() -> None:
    check_single_values(Tiny(2), batches(8, 4, world_size=4), config(batch_statistics="global"))


def test_a_fit_whose_last_batch_is_one_sample_is_refused_before_it_trains(
    make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path
) -> None:
    samples = len(open_split(packed_digits, "train"))
    network = CNNConfig(architecture="resnet18", stem="small")
    recipe = dataclasses.replace(make_recipe(epochs=1, batch_size=samples - 1), model=network)
    job = FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=tmp_path, fingerprint="f")
    with pytest.raises(InputError, match=f"{samples:,} samples in batches of {samples - 1:,}, leave one sample alone"):
        fit(job)


def test_nothing_is_computed_of_a_large_image() -> None:
    devices = []

    class Noting(Tiny):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            devices.append(images.device.type)
            return super().forward(images)

    check_single_values(Noting(1), batches(5, 4), config())
    assert devices == ["meta"]
