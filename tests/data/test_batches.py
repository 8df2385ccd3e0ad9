from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.data.batches import ScoringBatches, TrainBatches, epoch_batches, gather, hold
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.packed import Split, open_split
from trainyard.data.prepare import prepare


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


@pytest.mark.parametrize("step", [0, 1, 5, 6, 7])
def test_an_epoch_begins_at_any_step_with_what_is_left_of_it(numbered: Split, step: int) -> None:
    batches = TrainBatches(numbered, batch_size=8, seed=0, rank=1, world_size=2, micro_batches=2)
    batches.epoch = 3
    left = [batch.indices.tolist() for batch in batches.from_step(step)]
    assert left == [batch.indices.tolist() for batch in batches][2 * step :]


@pytest.fixture(scope="module")
def packed_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "packed"
    config = DigitScenesConfig(source="digit_scenes", scenes=200, size=32, smallest_digit=10, largest_digit=20)
    prepare("scenes", config, folder)
    return folder


@pytest.fixture(scope="module")
def packed_docstrings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docstrings") / "packed"
    config = DocstringsConfig(source="docstrings", libraries=("networkx", "numpy"), max_per_library=300)
    prepare("docstrings", config, folder)
    return folder


@pytest.mark.parametrize("kind", ["packed_digits", "packed_scenes", "packed_docstrings", "packed_series"])
def test_a_split_that_a_device_holds_gives_the_same_batches(kind: str, request: pytest.FixtureRequest) -> None:
    split = open_split(request.getfixturevalue(kind), "train")
    plain, resident = (TrainBatches(split, batch_size=37, seed=1) for _ in range(2))
    resident.held = hold(split, torch.device("cpu"), room=2**40)
    assert resident.held
    # What is held is what is read: the files could go.
    resident.split = Split(split.kind, "train", {**split.arrays, **dict.fromkeys(resident.held, np.zeros(0))})
    resident.steps_of = plain.steps_of  # type: ignore[method-assign]
    for one, other in zip(list(plain)[:5], resident, strict=False):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one.inputs, other.inputs, strict=True))
        assert torch.equal(one.targets, other.targets)
        assert one.targets.dtype == other.targets.dtype


def test_a_split_larger_than_the_room_is_not_held(numbered: Split) -> None:
    bytes_of_all = 50 + 50 * 8
    assert set(hold(numbered, torch.device("cpu"), room=bytes_of_all)) == {"images", "labels"}
    assert not hold(numbered, torch.device("cpu"), room=bytes_of_all - 1)
