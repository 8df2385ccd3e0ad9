"""Activations and normalisations by name."""

from __future__ import annotations

from math import erf, exp, sqrt, tanh
from typing import Any

import pytest
import torch
from torch import nn

from trainyard.models.activation import activation, normalisation


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 0.0),
        ("leaky_relu", -0.007),
        ("gelu", -0.7 * (1 + erf(-0.7 / sqrt(2))) / 2),
        ("silu", -0.7 / (1 + exp(0.7))),
        ("tanh", tanh(-0.7)),
        ("sigmoid", 1 / (1 + exp(0.7))),
        ("none", -0.7),
    ],
)
def test_activation_is_its_formula(name: Any, expected: float) -> None:
    assert activation(name)(torch.tensor(-0.7)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 2), (7, 1), (12, 4), (16, 8), (64, 8)])
def test_group_normalisation_divides_the_channels(channels: int, groups: int) -> None:
    layer = normalisation("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups
    assert layer(torch.randn(1, channels, 2, 2)).shape == (1, channels, 2, 2)
