from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.models.dropout import SequenceDropout, WeightDropout
from trainyard.training.sample_dropout import SampleDropout, StepDropout, drop_by_sample
from trainyard.training.under_way import UnderWay


def batch(indices: list[int], epoch: int = 0) -> Batch:
    return Batch((), torch.zeros(0), 1.0, torch.tensor(indices), epoch)


def dropped(indices: list[int], shape: tuple[int, ...], share: float = 0.5, epoch: int = 0, seed: int = 0) -> Tensor:
    under_way = UnderWay(seed)
    under_way.begin(batch(indices, epoch))
    result: Tensor = SampleDropout(share, 0, under_way)(torch.ones(len(indices), *shape))
    return result


def test_a_sample_loses_the_same_numbers_whatever_it_shares_a_batch_with() -> None:
    together = dropped([3, 7, 5], (6, 4))
    assert torch.equal(dropped([7], (6, 4))[0], together[1])
    # Padded to another length, its own steps are the same.
    assert torch.equal(dropped([7], (9, 4))[0, :6], together[1])


def test_seeds_epochs_samples_places_and_calls_differ() -> None:
    first = dropped([1], (64,))
    assert not torch.equal(first, dropped([2], (64,)))
    assert not torch.equal(first, dropped([1], (64,), epoch=1))
    assert not torch.equal(first, dropped([1], (64,), seed=1))
    under_way = UnderWay(0)
    under_way.begin(batch([1]))
    layers = SampleDropout(0.5, 0, under_way), SampleDropout(0.5, 1, under_way)
    again = [layer(torch.ones(1, 64)) for layer in (layers[0], layers[1], layers[0])]
    assert torch.equal(again[0], first)
    assert not torch.equal(again[1], first) and not torch.equal(again[2], first)
    # The next batch begins anew.
    under_way.begin(batch([1]))
    assert torch.equal(layers[0](torch.ones(1, 64)), first)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_stays(share: float) -> None:
    result = dropped(list(range(200)), (1000,), share)
    assert float((result == 0).double().mean()) == pytest.approx(share, abs=0.005)
    assert result.unique().tolist() == pytest.approx([0, 1 / (1 - share)])
    # No column and no row is favoured: within five standard deviations of a binomial.
    kept = (result != 0).double()
    for dim, count in ((0, 200), (1, 1000)):
        assert float((kept.mean(dim=dim) - (1 - share)).abs().max()) < 5 * (share * (1 - share) / count) ** 0.5


def test_nothing_is_dropped_outside_training_and_all_at_a_share_of_one() -> None:
    under_way = UnderWay(0)
    under_way.begin(batch([0]))
    layer = SampleDropout(0.5, 0, under_way).eval()
    assert torch.equal(layer(torch.ones(1, 9)), torch.ones(1, 9))
    assert torch.equal(dropped([0], (9,), 1.0), torch.zeros(1, 9))


def test_a_networks_layers_are_replaced_and_its_weights_keep_their_names() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Dropout(0.2)), nn.Dropout(0.4))
    names = list(network.state_dict())
    drop_by_sample(network, UnderWay(0))
    layers = [layer for layer in network.modules() if isinstance(layer, SampleDropout)]
    assert [(layer.share, layer.place) for layer in layers] == [(0.2, 0), (0.4, 1)]
    assert list(network.state_dict()) == names


def test_a_sequence_loses_the_same_features_at_all_its_steps() -> None:
    network = nn.Sequential(SequenceDropout(0.5))
    under_way = UnderWay(0)
    drop_by_sample(network, under_way)
    under_way.begin(batch([3, 7]))
    found = network(torch.ones(2, 9, 64))
    assert torch.equal(found, found[:, :1].expand(-1, 9, -1))
    assert not torch.equal(found[0], found[1])
    # Alone, and padded to another length, it loses the same.
    under_way.begin(batch([7]))
    assert torch.equal(network(torch.ones(1, 4, 64))[0], found[1, :4])
    # Features without steps are dropped as ever.
    under_way.begin(batch([7]))
    assert network(torch.ones(1, 64)).shape == (1, 64)


def test_weights_are_dropped_by_step_whatever_samples_it_has() -> None:
    network = nn.Sequential(WeightDropout(0.25))
    under_way = UnderWay(0)
    drop_by_sample(network, under_way)
    assert isinstance(network[0], StepDropout)

    def weights(indices: list[int], step: int, epoch: int = 0) -> Tensor:
        under_way.begin(batch(indices, epoch), step)
        result: Tensor = network(torch.ones(40, 50))
        return result

    first = weights([1, 2, 3], 5)
    # Another worker's share, or another piece of the step.
    assert torch.equal(weights([9], 5), first)
    assert not torch.equal(weights([1, 2, 3], 6), first)
    assert not torch.equal(weights([1, 2, 3], 5, epoch=1), first)
    assert float((first == 0).double().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(network.eval()(torch.ones(40, 50)), torch.ones(40, 50))
