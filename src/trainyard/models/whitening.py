"""A fixed first layer that makes neighbouring pixels uncorrelated, from the training images themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

IMAGES = 5000
"""Looked at, spread evenly over the training split."""
IMAGES_AT_ONCE = 250
LEAST_VARIANCE = 5e-4
"""Added to each component's own, so that one that hardly occurs is not made noise of (Jordan 2024, arXiv:2404.00498)."""


class Whitening(nn.Conv2d):
    """Principal components of patches, each with both signs: (N, C, H, W) to (N, 2 C side^2, H - side + 1, W - side + 1).

    The bias is learned; the weights are not, and are drawn at random until `fit` has seen images.
    """

    def __init__(self, in_channels: int, side: int) -> None:
        super().__init__(in_channels, 2 * in_channels * side**2, side)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the weights by images (N, C, H, W) float32, normalised, such that each component's variance is 1."""
        side = self.kernel_size[0]
        size = self.in_channels * side**2
        moments, count = torch.zeros(size, size, dtype=torch.float64), 0
        for some in torch.split(images, IMAGES_AT_ONCE):
            patches = some.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
            moments += (patches.T @ patches).double()
            count += len(patches)
        variances, components = torch.linalg.eigh(moments / count)
        scaled = (components / (variances.clamp(min=0) + LEAST_VARIANCE).sqrt()).T.reshape(-1, self.in_channels, side, side)
        self.weight.copy_(torch.cat([scaled, -scaled]))
        if self.bias is not None:
            self.bias.zero_()


def whiten(network: nn.Module, images: Any, normalise: Any) -> None:
    """Fit the network's whitening layer, where it has one.

    Args:
        network: any.
        images: (N, C, H, W) uint8 of the training split, which may be memory-mapped.
        normalise: from uint8 images to those that the layer takes.
    """
    for layer in network.modules():
        if isinstance(layer, Whitening):
            rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), IMAGES)).astype(np.int64))
            layer.fit(normalise(torch.from_numpy(np.asarray(images[rows]))))
