"""Dropout that is a function of (seed, epoch, sample, layer), and of weights one of (seed, epoch, step, layer): the same with
any number of workers, and after any restart.

torch's own draws from a state, so what it drops for a sample depends on which others share its batch and its worker.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainyard.models.dropout import SequenceDropout, WeightDropout
from trainyard.tasks.draws import Draws
from trainyard.training.under_way import UnderWay


class SampleDropout(nn.Module):
    """Zero a share of each sample's numbers (N, ...) while training, and scale up the others (Srivastava et al. 2014).

    Of sequences (N, T, F), where it is asked to, the same features at all steps.
    """

    def __init__(self, share: float, place: int, under_way: UnderWay, *, by_sequence: bool = False) -> None:
        super().__init__()
        self.share = share
        self.place = place
        self.under_way = under_way
        self.by_sequence = by_sequence
        self.serial = self.calls = 0

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, ...) to the same shape."""
        if not self.training or not self.share:
            return features
        if self.share == 1:
            return torch.zeros_like(features)
        now = self.under_way
        # A network may use one layer in several places.
        self.calls = self.calls + 1 if self.serial == now.serial else 0
        self.serial = now.serial
        draws = Draws(now.seed, now.epoch, now.indices.to(features.device))
        shape = features.shape
        if self.by_sequence and features.ndim == 3:
            shape = torch.Size((len(features), 1, features.shape[2]))
        # By rows of a sample, of which a network may have made several.
        kept = draws.keeps(1 - self.share, (self.place, self.calls), shape.numel() // len(now.indices)).view(shape)
        return features * (kept.to(features.dtype) / (1 - self.share))


class StepDropout(nn.Module):
    """Zero a share of weights while training, the same on all workers and in all pieces of a step; scale up the others."""

    def __init__(self, share: float, place: int, under_way: UnderWay) -> None:
        super().__init__()
        self.share = share
        self.place = place
        self.under_way = under_way

    def forward(self, weights: Tensor) -> Tensor:
        """Map weights of any shape to the same shape."""
        if not self.training or not self.share:
            return weights
        now = self.under_way
        draws = Draws(now.seed, now.epoch, torch.tensor([now.step], device=weights.device))
        kept = draws.keeps(1 - self.share, (self.place, 0), weights.numel()).view(weights.shape)
        return weights * (kept.to(weights.dtype) / (1 - self.share))


def drop_by_sample(network: nn.Module, under_way: UnderWay) -> None:
    """Let the network's dropout layers drop by sample, those of weights by step; its weights and their names stay."""
    for place, name in enumerate([name for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)]):
        layer = network.get_submodule(name)
        share: float = layer.p  # type: ignore[assignment]
        if isinstance(layer, WeightDropout):
            replace(network, name, StepDropout(share, place, under_way))
        else:
            by_sequence = isinstance(layer, SequenceDropout)
            replace(network, name, SampleDropout(share, place, under_way, by_sequence=by_sequence))


def replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of a name such as `blocks.0.1`, training where that one is."""
    layer.train(network.get_submodule(name).training)
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
