"""The weights a network begins with."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import nn

from trainyard.models.cnn import CNN
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.initialisation import gain, initialise, initialise_lstm


@pytest.mark.parametrize(
    ("scheme", "spread"),
    [
        ("kaiming", sqrt(2 / (32 * 9))),
        ("xavier", sqrt(2 / (32 * 9 + 64 * 9))),
        ("normal_small", 0.01),
        ("normal_large", 1.0),
        ("zeros", 0.0),
    ],
)
def test_convolution_begins_with_the_spread_of_its_scheme(scheme: Any, spread: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3)
    initialise(layer, scheme, "relu")
    assert layer.weight.std().item() == pytest.approx(spread, rel=0.03)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.02)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_default_leaves_the_weights_that_torch_drew() -> None:
    layer = nn.Linear(3, 4)
    before = layer.weight.clone()
    initialise(layer, "default", "relu")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("layer", [nn.Linear(256, 256), nn.ConvTranspose2d(256, 64, kernel_size=2, stride=2)])
def test_layers_without_activation_keep_the_spread_of_the_signal(layer: nn.Module) -> None:
    torch.manual_seed(0)
    initialise(layer, "kaiming", "relu")
    shape = (64, 256) if isinstance(layer, nn.Linear) else (8, 256, 6, 6)
    assert layer(torch.randn(shape)).std().item() == pytest.approx(1, rel=0.1)


def test_kaiming_carries_the_signal_through_twenty_layers_and_small_weights_lose_it() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 16, 16, 16)
    spreads = {}
    for scheme in ("kaiming", "normal_small"):
        config = CNNConfig(widths=(64,), convolutions=20, pooling="none", normalisation="none", initialisation=scheme)
        spreads[scheme] = CNN(config, in_channels=16, num_classes=2).blocks(images).std().item()
    assert 0.02 < spreads["kaiming"] < 10
    assert spreads["normal_small"] < 1e-6


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "none", "sigmoid"])
def test_gain_is_that_of_torch(name: Any) -> None:
    expected = nn.init.calculate_gain("linear" if name == "none" else name)
    assert gain(name) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["orthogonal", "uniform"])
def test_lstm_begins_with_the_forget_gate_open(scheme: Any) -> None:
    lstm = nn.LSTM(5, 6)
    initialise_lstm(lstm, scheme, forget_gate_bias=1.5)
    bias = (lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")).reshape(4, 6)
    assert bias.tolist() == [[0.0] * 6, [1.5] * 6, [0.0] * 6, [0.0] * 6]


def test_each_recurrent_gate_is_orthogonal() -> None:
    lstm = nn.LSTM(5, 6)
    initialise_lstm(lstm, "orthogonal", forget_gate_bias=1.0)
    for gate in lstm.get_parameter("weight_hh_l0").detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)


def test_uniform_recurrent_weights_fill_their_range() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(50, 64)
    initialise_lstm(lstm, "uniform", forget_gate_bias=1.0)
    for name in ("weight_hh_l0", "weight_ih_l0"):
        weight = lstm.get_parameter(name)
        assert 0.12 < weight.abs().max().item() <= 1 / sqrt(64)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "none"])
def test_each_activation_trains(name: Any) -> None:
    network = CNN(CNNConfig(widths=(4,), activation=name), in_channels=1, num_classes=2)
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    gradient = network.get_parameter("blocks.0.0.weight").grad
    assert gradient is not None
    assert gradient.any()
