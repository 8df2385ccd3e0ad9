"""Draws are held against splitmix64 written with Python's whole numbers, and against what chance should look like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainyard.tasks.draws import Draws, Slot

WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
MANY = torch.arange(20_000)


def splitmix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def expected_bits(seed: int, epoch: int, index: int, slot: int) -> int:
    key = splitmix((splitmix((seed + GOLDEN) & WORD) + epoch + GOLDEN) & WORD)
    sample = splitmix((index * GOLDEN + key) & WORD)
    return splitmix((sample + (slot + 1) * GOLDEN) & WORD)


def test_the_reference_itself_gives_the_published_numbers() -> None:
    found = [splitmix((1234567 + (step + 1) * GOLDEN) & WORD) for step in range(3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**63 + 5, 100_000)])
def test_numbers_are_those_of_splitmix64(seed: int, epoch: int) -> None:
    indices = [0, 1, 59_999, 2**40]
    draws = Draws(seed, epoch, torch.tensor(indices))
    for row, index in enumerate(indices):
        for slot in Slot:
            assert int(draws.bits[row, slot]) & WORD == expected_bits(seed, epoch, index, slot)
    counted = draws.shares(Slot.TOKENS, 3)
    assert int(counted[2, 1]) == splitmix((expected_bits(seed, epoch, 59_999, Slot.TOKENS) + 2 * GOLDEN) & WORD) >> 40


def test_a_sample_draws_the_same_whatever_else_is_in_its_batch() -> None:
    order = torch.randperm(300)
    whole, shuffled = Draws(1, 2, torch.arange(300)), Draws(1, 2, order)
    assert torch.equal(whole.bits[order], shuffled.bits)
    assert torch.equal(whole.normal(Slot.NOISE, 21)[order], shuffled.normal(Slot.NOISE, 21))
    alone = Draws(1, 2, torch.tensor([137]))
    assert torch.equal(alone.uniform(Slot.ANGLE, -1, 1), whole.uniform(Slot.ANGLE, -1, 1)[137:138])
    assert torch.equal(alone.normal(Slot.NOISE, 21), whole.normal(Slot.NOISE, 21)[137:138])


def test_a_longer_row_begins_as_a_shorter_one() -> None:
    draws = Draws(0, 0, torch.arange(5))
    assert torch.equal(draws.normal(Slot.NOISE, 30)[:, :7], draws.normal(Slot.NOISE, 7))
    assert torch.equal(draws.shares(Slot.TOKENS, 30)[:, :7], draws.shares(Slot.TOKENS, 7))


def test_uniform_numbers_fill_their_range_evenly() -> None:
    draws = Draws(0, 0, MANY)
    numbers = draws.uniform(Slot.SCALE, 0.5, 2.5)
    assert 0.5 <= float(numbers.min()) < 0.501 and 2.499 < float(numbers.max()) < 2.5
    assert np.histogram(numbers.numpy(), bins=10, range=(0.5, 2.5))[0] == pytest.approx(2000, rel=0.1)
    assert torch.bincount(draws.below(Slot.CROP_ROW, 7), minlength=7).numpy() == pytest.approx(20_000 / 7, rel=0.08)
    assert abs(float(draws.coin(Slot.FLIP_ROWS).float().mean()) - 0.5) < 0.015


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    numbers = Draws(0, 0, MANY[:4000]).normal(Slot.NOISE, 50).double()
    assert abs(float(numbers.mean())) < 0.01
    assert float(numbers.std()) == pytest.approx(1, abs=0.01)
    assert float(numbers.pow(3).mean()) == pytest.approx(0, abs=0.03)
    assert float(numbers.pow(4).mean()) == pytest.approx(3, abs=0.1)
    # The four that one word gives, and neighbours of all kinds, know nothing of each other.
    correlation = np.corrcoef(numbers.T.numpy())
    assert np.abs(correlation - np.eye(50)).max() < 0.08


def test_samples_epochs_seeds_and_purposes_know_nothing_of_each_other() -> None:
    def angles(seed: int, epoch: int, first: int = 0, slot: Slot = Slot.ANGLE) -> np.ndarray:
        return Draws(seed, epoch, MANY + first).uniform(slot, 0, 1).numpy()

    base = angles(0, 0)
    others = [angles(0, 1), angles(1, 0), angles(1, 1), angles(0, 0, first=1), angles(0, 1, first=1), angles(0, 2)]
    others += [angles(0, 0, slot=slot) for slot in Slot if slot != Slot.ANGLE]
    assert max(abs(np.corrcoef(base, other)[0, 1]) for other in others) < 0.03
    assert all((base == other).mean() < 0.001 for other in others)
