"""What follows a convolution: normalisation and activation, by name."""

from __future__ import annotations

from math import gcd

from torch import nn

from trainyard.models.cnn_config import Activation, Normalisation

MOST_GROUPS = 8
"""Of group normalisation."""
LEAKY_SLOPE = 0.01
"""Of leaky_relu below zero (Maas et al. 2013)."""


def activation(name: Activation) -> nn.Module:
    """Return the activation called `name`, which keeps the shape of what it is given."""
    match name:
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(LEAKY_SLOPE)
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU()
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
        case "none":
            return nn.Identity()


def normalisation(name: Normalisation, channels: int) -> nn.Module:
    """Return the normalisation called `name` for feature maps (N, channels, H, W).

    batch: Ioffe and Szegedy 2015, arXiv:1502.03167. group: Wu and He 2018, arXiv:1803.08494, which does not
    depend on the batch.
    """
    match name:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(gcd(MOST_GROUPS, channels), channels)
        case "none":
            return nn.Identity()
