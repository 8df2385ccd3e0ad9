from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from trainyard.data.batches import Batch, ScoringBatches, TrainBatches, gather
from trainyard.data.packed import Split
from trainyard.data.raw import Kind
from trainyard.data.text import UNKNOWN_ID
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.augmentation import Augmentation, Guarded, unchanged

EVERYTHING = AugmentConfig(
    shift=2,
    crop=(10, 12),
    flip="both",
    alternate_flip=True,
    rotate=20.0,
    scale=(0.8, 1.2),
    elastic=1.5,
    cutout=3,
    brightness=0.2,
    contrast=0.2,
    colour=0.1,
    noise=0.05,
)
RNG = np.random.default_rng(0)
SPLITS: dict[str, Split] = {
    "image_classification": Split(
        "image_classification",
        "train",
        {"images": RNG.integers(0, 256, (53, 3, 12, 14), dtype=np.uint8), "labels": np.arange(53) % 3},
    ),
    "segmentation": Split(
        "segmentation",
        "train",
        {
            "images": RNG.integers(0, 256, (53, 3, 12, 14), dtype=np.uint8),
            "masks": RNG.integers(0, 4, (53, 12, 14), dtype=np.uint8),
        },
    ),
    "text_classification": Split(
        "text_classification",
        "train",
        {
            "tokens": RNG.integers(2, 99, 53 * 54 // 2).astype(np.int32),
            "offsets": np.concatenate([[0], np.cumsum(np.arange(1, 54))]),
            "labels": np.arange(53) % 2,
        },
    ),
    "forecasting": Split(
        "forecasting",
        "train",
        {
            "values": RNG.normal(size=(80, 3)).astype(np.float32),
            "starts": np.arange(53),
            "window": np.array([9, 4, 2]),
        },
    ),
}
CONFIGS = {
    "image_classification": EVERYTHING,
    "segmentation": EVERYTHING,
    "text_classification": AugmentConfig(token_dropout=0.3),
    "forecasting": AugmentConfig(jitter=0.1, scale=(0.5, 1.5)),
}


def augmentation(kind: Kind, seed: int = 3, **options: Any) -> Augmentation:
    config = AugmentConfig(**options) if options else CONFIGS[kind]
    return Augmentation(config=config, kind=kind, seed=seed, mean=(0.5, 0.5, 0.5))


def by_sample(augment: Augmentation, batches: list[Batch], samples: int = 53) -> dict[int, list[np.ndarray]]:
    """Return inputs and target of each sample with weight as it is trained with; what is padded is cut off."""
    found = {}
    for batch in batches:
        seen = augment(batch)
        for row, index in enumerate(seen.indices.tolist() if seen.weight else []):
            values = seen.inputs[0][row]
            if seen.inputs[0].dtype == torch.int64:
                values = values[: int(seen.inputs[1][row])]
            found[index] = [values.numpy(), seen.targets[row].numpy()]
    assert sorted(found) == list(range(samples))
    return found


def same(first: dict[int, list[np.ndarray]], second: dict[int, list[np.ndarray]]) -> list[int]:
    """Return the samples of which every bit is the same."""
    return [index for index in first if all(np.array_equal(a, b) for a, b in zip(first[index], second[index], strict=True))]


@pytest.mark.parametrize("kind", SPLITS)
def test_a_sample_is_changed_alike_by_any_batch_number_of_workers_pieces_and_order(kind: Kind) -> None:
    split = SPLITS[kind]

    def epoch(batch_size: int, world_size: int = 1, micro_batches: int = 1, order: int = 0) -> dict[int, list[np.ndarray]]:
        found = []
        for rank in range(world_size):
            batches = TrainBatches(
                split, batch_size=batch_size, seed=order, rank=rank, world_size=world_size, micro_batches=micro_batches
            )
            batches.epoch = 4
            found += list(batches)
        return by_sample(augmentation(kind), found)

    expected = epoch(53)
    for other in (epoch(1), epoch(16), epoch(16, 3), epoch(16, 2, 3), epoch(5, 3, 3), epoch(16, order=9)):
        assert same(expected, other) == list(expected)


@pytest.mark.parametrize("kind", SPLITS)
def test_another_epoch_or_seed_changes_samples_otherwise(kind: Kind) -> None:
    def epoch(number: int, seed: int = 3) -> dict[int, list[np.ndarray]]:
        batches = TrainBatches(SPLITS[kind], batch_size=16, seed=0)
        batches.epoch = number
        return by_sample(augmentation(kind, seed), list(batches))

    first = epoch(0)
    # The shortest texts may well lose no word in either.
    assert len(same(first, epoch(1))) < 10 and len(same(first, epoch(0, seed=4))) < 10
    assert same(first, epoch(0)) == list(first)


def test_batches_say_which_samples_they_hold_and_in_which_epoch() -> None:
    split = SPLITS["image_classification"]
    batches = TrainBatches(split, batch_size=16, seed=0)
    batches.epoch = 2
    for batch in batches:
        assert batch.epoch == 2 and batch.indices.dtype == torch.int64
        assert np.array_equal(batch.inputs[0].numpy(), split.arrays["images"][batch.indices])
    assert [batch.epoch for batch in ScoringBatches(split, batch_size=40)] == [0, 0]


@pytest.mark.parametrize("kind", SPLITS)
def test_options_of_no_size_change_no_bit(kind: Kind) -> None:
    batch = gather(SPLITS[kind], np.arange(20), epoch=1)
    for augment in (Augmentation(config=AugmentConfig(), kind=kind, seed=0, mean=(0.5,) * 3), unchanged):
        found = augment(batch)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found.inputs, batch.inputs, strict=True))
        assert torch.equal(found.targets, batch.targets)


@pytest.mark.parametrize("kind", SPLITS)
def test_the_batch_itself_is_left_as_it_was(kind: Kind) -> None:
    batch, again = (gather(SPLITS[kind], np.arange(20), epoch=1) for _ in range(2))
    augmentation(kind)(batch)
    assert torch.equal(batch.inputs[0], again.inputs[0]) and torch.equal(batch.targets, again.targets)


def test_one_option_draws_the_same_beside_any_other() -> None:
    batch = gather(SPLITS["image_classification"], np.arange(53), epoch=1)
    alone = augmentation("image_classification", shift=2)(batch).inputs[0]
    beside = augmentation("image_classification", shift=2, cutout=4)(batch).inputs[0]
    kept = (alone == beside).all(dim=1)
    assert float(kept.float().mean()) == pytest.approx(1 - 16 / (12 * 14), abs=0.02)


def test_options_are_drawn_independently() -> None:
    images = torch.full((4000, 1, 9, 9), 100, dtype=torch.uint8)
    images[:, :, :, 0] = 50
    batch = Batch((images,), torch.zeros(4000), 1.0, torch.arange(4000), 0)
    augment = augmentation("image_classification", flip="horizontal", brightness=0.1)
    found = augment(batch).inputs[0]
    flipped = found[:, 0, 0, 0] > found[:, 0, 0, 8]
    added = found[:, 0, 0, 4] - 100
    assert abs(float(torch.corrcoef(torch.stack((flipped.float(), added)))[0, 1])) < 0.06


@pytest.mark.parametrize("precision", [torch.bfloat16, None])
def test_arithmetic_of_the_network_is_not_that_of_its_images(precision: torch.dtype | None) -> None:
    batch = gather(SPLITS["segmentation"], np.arange(20), epoch=1)
    expected = augmentation("segmentation")(batch)
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        found = augmentation("segmentation")(batch)
    assert found.inputs[0].dtype == torch.float32
    assert torch.equal(found.inputs[0], expected.inputs[0]) and torch.equal(found.targets, expected.targets)


def test_whole_pixels_stay_bytes() -> None:
    augment = augmentation("image_classification", shift=1, flip="horizontal", cutout=3)
    assert augment(gather(SPLITS["image_classification"], np.arange(5))).inputs[0].dtype == torch.uint8


@pytest.mark.parametrize("options", [{"shift": 2}, {"rotate": 9.0, "cutout": 2}, {"cutout": 2}, {"colour": 0.1}])
def test_channels_that_come_last_stay_last(options: dict[str, Any]) -> None:
    batch = gather(SPLITS["segmentation"], np.arange(9))
    last = batch._replace(inputs=(batch.inputs[0].contiguous(memory_format=torch.channels_last),))
    augment = augmentation("segmentation", **options)
    found = augment(last).inputs[0]
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, augment(batch).inputs[0])


def test_the_share_of_tokens_is_unknown_and_padding_stays() -> None:
    tokens = torch.cat((torch.full((500, 40), 7), torch.zeros(500, 10, dtype=torch.int64)), dim=1)
    batch = Batch((tokens, torch.full((500,), 40)), torch.zeros(500), 1.0, torch.arange(500), 0)
    dropped = augmentation("text_classification", token_dropout=0.25)(batch).inputs[0]
    assert set(dropped[:, :40].unique().tolist()) == {UNKNOWN_ID, 7}
    assert float((dropped[:, :40] == 1).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert not dropped[:, 40:].any()


def test_a_series_and_what_follows_it_get_one_amplitude() -> None:
    split = SPLITS["forecasting"]
    batch = gather(split, np.arange(53), epoch=1)
    found = augmentation("forecasting", scale=(0.5, 1.5))(batch)
    factors = found.targets / batch.targets
    assert float((factors.amax(dim=(1, 2)) - factors.amin(dim=(1, 2))).max()) < 1e-4
    expected = batch.inputs[0][:, :, :2] * factors[:, :1, :1]
    assert torch.allclose(found.inputs[0][:, :, :2], expected, rtol=1e-4)
    # The third column is no target: a calendar, say, whose size means something.
    assert torch.equal(found.inputs[0][:, :, 2], batch.inputs[0][:, :, 2])
    assert float(factors.min()) < 0.6 and float(factors.max()) > 1.4


def test_jitter_is_noise_on_what_is_seen_alone() -> None:
    batch = gather(SPLITS["forecasting"], np.arange(53), epoch=1)
    found = augmentation("forecasting", jitter=0.1)(batch)
    noise = found.inputs[0] - batch.inputs[0]
    assert float(noise.std()) == pytest.approx(0.1, rel=0.06)
    assert torch.equal(found.targets, batch.targets)


def test_an_augmentation_that_fails_names_its_samples_and_makes_the_weight_nan() -> None:
    def fail(batch: Batch) -> Batch:
        if bool((batch.indices == 7).any()):
            raise ValueError("no such corner")
        return batch

    guarded = Guarded(fail)
    good = Batch((torch.zeros(2, 1, 4, 4),), torch.zeros(2), 0.5, torch.tensor([3, 4]), 0)
    assert guarded(good) is good and guarded.problem == ""
    bad = Batch((torch.zeros(3, 1, 4, 4),), torch.zeros(3), 0.5, torch.tensor([3, 7, 4]), 0)
    assert math.isnan(guarded(bad).weight)
    assert guarded.problem.startswith("train.augment fails at training samples 7 (ValueError: no such corner); look at")
