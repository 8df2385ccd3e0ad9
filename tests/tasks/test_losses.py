from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from trainyard.tasks.losses import dice_losses, sample_losses
from trainyard.tasks.optimization import learning_rate_factor
from trainyard.tasks.train_config import TrainConfig

CONFIG = TrainConfig(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0)


def test_cross_entropy_of_no_knowledge_is_ln_of_the_classes() -> None:
    losses = sample_losses(torch.zeros(3, 10), torch.tensor([0, 5, 9]), CONFIG, None)
    assert losses.tolist() == pytest.approx([math.log(10)] * 3)


def test_losses_of_masks_are_means_over_pixels() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    losses = sample_losses(logits, masks, CONFIG, None)
    assert losses.shape == (2,)
    assert float(losses.mean()) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, masks)))


def test_dice_of_a_perfect_mask_is_nothing_and_of_a_wrong_one_is_one() -> None:
    masks = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 0]]])
    right = torch.nn.functional.one_hot(masks, 3).movedim(-1, 1) * 100.0
    assert dice_losses(right, masks).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert dice_losses(right.roll(1, dims=1), masks).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_dice_by_hand() -> None:
    # Class 0 has 1 pixel, class 1 has 3; all four get probability one half for each of the two classes.
    masks = torch.tensor([[[0, 1], [1, 1]]])
    by_hand = 1 - (2 * 0.5 / (2 + 1) + 2 * 1.5 / (2 + 3)) / 2
    assert dice_losses(torch.zeros(1, 2, 2, 2), masks).item() == pytest.approx(by_hand)


def test_squared_error_is_taken_of_numbers_and_of_class_probabilities() -> None:
    mse = dataclasses.replace(CONFIG, loss="mse")
    numbers = sample_losses(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 2.0]), mse, None)
    assert numbers.tolist() == [4.0, 0.0]
    classes = sample_losses(torch.zeros(1, 4), torch.tensor([2]), mse, None)
    assert classes.item() == pytest.approx(3 * 0.25**2 + 0.75**2)


def test_class_weights_scale_the_loss_of_their_class() -> None:
    weights = torch.tensor([2.0, 0.5])
    losses = sample_losses(torch.zeros(2, 2), torch.tensor([0, 1]), CONFIG, weights)
    assert losses.tolist() == pytest.approx([2 * math.log(2), 0.5 * math.log(2)])


@pytest.mark.parametrize(("schedule", "first", "last"), [("cosine", 0.1, 0.0), ("one_cycle", 0.136, 1e-4)])
def test_schedules_rise_to_one_and_fall(schedule: str, first: float, last: float) -> None:
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup_fraction=0.1)
    factors = [learning_rate_factor(config, step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(first)
    assert max(factors) == factors[9] == 1.0
    assert factors[100] == pytest.approx(last)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_a_constant_schedule_stays() -> None:
    assert {learning_rate_factor(CONFIG, step, 10) for step in range(10)} == {1.0}


@pytest.mark.parametrize(("loss", "expected"), [("mse", [2.5, 4.5]), ("mae", [1.5, 1.5])])
def test_the_loss_of_a_forecast_is_the_mean_over_steps_and_targets(loss: str, expected: list[float]) -> None:
    forecast = torch.tensor([[[1.0], [2.0]], [[0.0], [3.0]]])
    config = dataclasses.replace(CONFIG, loss=loss)  # type: ignore[arg-type]
    assert sample_losses(forecast, torch.zeros(2, 2, 1), config, None).tolist() == pytest.approx(expected)


def test_each_coarser_level_counts_half_as_much() -> None:
    torch.manual_seed(0)
    targets, levels = torch.randint(2, (3, 4, 4)), [torch.randn(3, 2, 4, 4) for _ in range(3)]
    alone = [sample_losses(logits, targets, CONFIG, None) for logits in levels]
    found = sample_losses(tuple(levels), targets, CONFIG, None)
    torch.testing.assert_close(found, (4 * alone[0] + 2 * alone[1] + alone[2]) / 7)
    # Levels that all say the same have the loss of one, so that curves can be compared with those of validation.
    torch.testing.assert_close(sample_losses((levels[0],) * 3, targets, CONFIG, None), alone[0])
