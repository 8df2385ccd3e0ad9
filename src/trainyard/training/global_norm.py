"""Batch normalisation over the batch of all workers, on any device.

torch's own SyncBatchNorm runs on GPUs alone. This one gives each worker what one process with the whole batch would
have: forward, backward and running statistics, with uneven shares, and with shares that only stand in for an empty one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from trainyard.training.sample_dropout import replace
from trainyard.training.under_way import UnderWay


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Normalise by mean and variance of each channel over the samples of all workers (Ioffe 2015, arXiv:1502.03167)."""

    def __init__(self, like: nn.BatchNorm2d, under_way: UnderWay) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.load_state_dict(like.state_dict())
        for own, given in zip(self.parameters(), like.parameters(), strict=True):
            own.requires_grad_(given.requires_grad)
        self.under_way = under_way

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(features)
        counted = self.under_way.counts
        count, mean, variance = global_moments(features.detach(), counted)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            unbiased = variance * count / (count - 1).clamp_min(1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        scale = torch.rsqrt(variance + self.eps)
        result: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            features, self.weight, self.bias, mean.float(), scale.float(), count, counted
        )
        return result


def global_moments(features: Tensor, counted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many numbers a channel has over all workers, () float64, and their mean and variance (C,) float64.

    Each worker's own moments are exact for themselves and then joined (Chan et al. 1979), so that a mean far from 0 costs
    no digits; and in the order of the ranks, so that the bits are the same on all.
    """
    values = features.double() if features.device.type != "mps" else features.float()
    own_variance, own_mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    own_count = float(counted) * features.numel() / features.shape[1]
    own = torch.cat([own_mean, own_variance, own_mean.new_tensor([own_count])])
    every = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(every, own)
    means, variances, counts = torch.split(torch.stack(every), [len(own_mean), len(own_mean), 1], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(dim=0) / total
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
    return total, mean, variance


class _Normalise(torch.autograd.Function):
    """(x - mean) * scale * weight + bias, where mean and scale are functions of every worker's x."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, count: Tensor, counted: bool
    ) -> Tensor:
        ctx.save_for_backward(features, weight, mean, scale, count)
        ctx.counted = counted
        factor = weight * scale
        offset = bias - mean * factor
        normalised = features.float() * _by_channel(factor) + _by_channel(offset)
        return normalised.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradients[0].float()
        standard = (features.float() - _by_channel(mean)) * _by_channel(scale)
        # The sums over this worker's samples are the gradients of bias and weight, which DDP averages later.
        bias_gradient = gradient.sum(dim=(0, 2, 3), dtype=torch.float64)
        weight_gradient = (gradient * standard).sum(dim=(0, 2, 3), dtype=torch.float64)
        sums = torch.cat([bias_gradient, weight_gradient])
        torch.distributed.all_reduce(sums)
        means = (sums / count).float()
        bias_mean, weight_mean = means.split(len(bias_gradient))
        passed = gradient - _by_channel(bias_mean) - standard * _by_channel(weight_mean) if ctx.counted else gradient
        passed = passed * _by_channel(weight * scale)
        return passed.to(features.dtype), weight_gradient.float(), bias_gradient.float(), None, None, None, None


def _by_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]


def normalise_over_workers(network: nn.Module, under_way: UnderWay) -> None:
    """Let the network's batch normalisation see the batches of all workers; its weights and their names stay as they are."""
    for name in [name for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)]:
        layer = network.get_submodule(name)
        replace(network, name, GlobalBatchNorm2d(layer, under_way))  # type: ignore[arg-type]
