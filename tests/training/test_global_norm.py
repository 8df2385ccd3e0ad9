"""Batch normalisation over workers, held against one process that has the whole batch."""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed
from tests.training.gang import PATIENCE, start_processes
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.training.global_norm import global_moments, normalise_over_workers
from trainyard.training.under_way import UnderWay

TOLERANCE = 1e-6


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    for layer in (layers[1], layers[4]):
        nn.init.uniform_(layer.get_parameter("weight"), 0.5, 1.5)
        nn.init.uniform_(layer.get_parameter("bias"))
    return layers


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, 9, 9, generator=generator), torch.randn(count, 4, 5, 5, generator=generator)


def step(layers: nn.Module, inputs: Tensor, targets: Tensor, weight: float) -> Tensor:
    inputs = inputs.requires_grad_()
    output: Tensor = layers(inputs)
    ((output - targets).square().mean(dim=(1, 2, 3)).sum() * weight).backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None
    return inputs.grad


def work(rank: int, shares: list[int], folder: Path) -> None:
    """Take one step on this worker's share of the batch; a share of 0 has one sample that only stands in."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=len(shares),
        timeout=timedelta(seconds=PATIENCE),
    )
    under_way, layers = UnderWay(0), network()
    normalise_over_workers(layers, under_way)
    whole, targets = images(sum(shares))
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1])) if shares[rank] else slice(0, 1)
    weight = len(shares) / sum(shares) * bool(shares[rank])
    under_way.begin(Batch((), targets, weight, torch.arange(len(whole[own])), 0))
    gradient = step(layers, whole[own], targets[own], weight)
    for parameter in layers.parameters():
        assert parameter.grad is not None
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= len(shares)
    # Far from 0, where a sum of squares would lose its digits.
    _, mean, variance = global_moments(far(whole[own].detach()), bool(shares[rank]))
    found = {
        "mean": mean,
        "variance": variance,
        "inputs": gradient[: shares[rank]] / len(shares),
        "gradients": [parameter.grad for parameter in layers.parameters()],
        "state": layers.state_dict(),
    }
    torch.save(found, folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [[4, 4], [5, 2], [3, 1, 0]])
def test_workers_have_the_values_and_gradients_of_one_process(tmp_path: Path, shares: list[int]) -> None:
    start_processes(work, [(rank, shares, tmp_path) for rank in range(len(shares))])
    whole = network()
    inputs, targets = images(sum(shares))
    gradient = step(whole, inputs, targets, 1 / sum(shares))
    found = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(len(shares))]
    assert close(torch.cat([one["inputs"] for one in found]), gradient)
    for one in found:
        for mine, parameter in zip(one["gradients"], whole.parameters(), strict=True):
            assert parameter.grad is not None and close(mine, parameter.grad)
        variance, mean = torch.var_mean(far(inputs.detach()).double(), dim=(0, 2, 3), correction=0)
        assert close(one["mean"], mean) and close(one["variance"], variance)
        for name, tensor in whole.state_dict().items():
            assert close(one["state"][name].double(), tensor.double()), name


def test_outside_training_it_is_batch_normalisation() -> None:
    layers = network().eval()
    other = copy.deepcopy(layers)
    normalise_over_workers(other, UnderWay(0))
    assert torch.equal(layers(images(2)[0]), other(images(2)[0]))


def far(values: Tensor) -> Tensor:
    return values + 1000


def close(one: Tensor, two: Tensor) -> bool:
    return float((one - two).abs().max()) <= TOLERANCE * max(1.0, float(two.abs().max()))
