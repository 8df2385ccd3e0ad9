from __future__ import annotations

import numpy as np
import pytest

from trainyard.data.batches import ScoringBatches, TrainBatches, epoch_batches, gather
from trainyard.data.packed import Split


@pytest.fixture
def numbered() -> Split:
    """Fifty images whose only pixel is their number."""
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    return Split("image_classification", "train", {"images": images, "labels": np.arange(50)})


def seen(batches: TrainBatches) -> list[set[int]]:
    """Return the samples with weight of each optimizer step."""
    parts = [set(batch.targets.tolist()) if batch.weight else set() for batch in batches]
    pieces = batches.micro_batches
    return [set().union(*parts[start : start + pieces]) for start in range(0, len(parts), pieces)]


LENGTHS = np.random.default_rng(0).integers(1, 40, 1000)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_an_epoch_visits_every_sample_once_in_an_order_that_seed_and_epoch_decide(lengths: np.ndarray | None) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(seed, epoch, 1000, 16, lengths)).tolist()

    assert sorted(order(3, 5)) == list(range(1000))
    assert order(3, 5) == order(3, 5)
    assert order(3, 5) != order(3, 6)
    assert order(3, 5) != order(4, 5)


def test_texts_of_a_batch_are_of_similar_length_and_batches_in_no_order_of_it() -> None:
    batches = epoch_batches(0, 0, 1000, 16, LENGTHS)
    assert sorted(map(len, batches)) == [8, *[16] * 62]
    padding = sum(LENGTHS[batch].max() * len(batch) for batch in batches) - LENGTHS.sum()
    assert padding < 0.1 * LENGTHS.sum()
    means = [LENGTHS[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


@pytest.mark.parametrize("micro_batches", [1, 2, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 8, 50])
def test_any_number_of_workers_sees_the_same_samples_in_the_same_steps(
    numbered: Split, batch_size: int, world_size: int, micro_batches: int
) -> None:
    alone = TrainBatches(numbered, batch_size=batch_size, seed=0)
    workers = [
        TrainBatches(numbered, batch_size=batch_size, seed=0, rank=rank, world_size=world_size, micro_batches=micro_batches)
        for rank in range(world_size)
    ]
    shares = [seen(worker) for worker in workers]
    assert [set().union(*step) for step in zip(*shares, strict=True)] == seen(alone)
    assert sum(len(step) for share in shares for step in share) == 50
    assert {len(worker) for worker in workers} == {alone.steps * micro_batches}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_weights_make_the_workers_mean_that_of_the_global_batch(numbered: Split, world_size: int) -> None:
    workers = [
        list(TrainBatches(numbered, batch_size=8, seed=0, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    whole = list(TrainBatches(numbered, batch_size=8, seed=0))
    for step, expected in enumerate(whole):
        means = [float(worker[step].targets.sum()) * worker[step].weight for worker in workers]
        assert sum(means) / world_size == pytest.approx(float(expected.targets.float().mean()))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_scoring_counts_every_sample_once(numbered: Split, world_size: int) -> None:
    found = [
        label
        for rank in range(world_size)
        for batch in ScoringBatches(numbered, batch_size=7, rank=rank, world_size=world_size)
        for label in batch.targets.tolist()
    ]
    assert sorted(found) == list(range(50))


def test_texts_are_padded_with_nothing_but_padding() -> None:
    split = Split(
        "text_classification",
        "train",
        {
            "tokens": np.array([5, 6, 7, 8, 9, 4], dtype=np.int32),
            "offsets": np.array([0, 3, 5, 6]),
            "labels": np.array([0, 1, 2]),
        },
    )
    tokens, lengths = gather(split, np.array([2, 0])).inputs
    assert tokens.tolist() == [[4, 0, 0], [5, 6, 7]]
    assert lengths.tolist() == [1, 3]
