"""The weights a network begins with, all in one place."""

from __future__ import annotations

from math import sqrt
from typing import Literal

from torch import Tensor, nn

from trainyard.models.activation import LEAKY_SLOPE
from trainyard.models.cnn_config import Activation, Initialisation

SMALL, LARGE = 0.01, 1.0
"""Standard deviations of normal_small and normal_large."""


def initialise(module: nn.Module, scheme: Initialisation, activation: Activation) -> None:
    """Draw the weights of every convolution and linear layer inside `module` by `scheme`.

    With n inputs and m outputs of one unit, and the gain g of the activation that follows it (`gain`):

    | scheme       | Conv2d                       | ConvTranspose2d, Linear (no activation follows) |
    |--------------|------------------------------|-------------------------------------------------|
    | kaiming      | N(0, g^2 / n)                | N(0, 1 / n)                                     |
    | xavier       | U(+-sqrt(6 / (n + m)))       | U(+-sqrt(6 / (n + m)))                          |
    | normal_small | N(0, 0.01^2)                 | N(0, 0.01^2)                                    |
    | normal_large | N(0, 1)                      | N(0, 1)                                         |
    | zeros        | 0: all channels stay alike   | 0                                               |
    | default      | torch's, U(+-1 / sqrt(n))    | torch's                                         |

    Biases are 0 but for `default`; normalisation layers always begin with scale 1 and shift 0. kaiming: He et
    al. 2015, arXiv:1502.01852, eq. 10. xavier: Glorot and Bengio 2010, eq. 16.
    """
    if scheme == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            factor = gain(activation) if isinstance(layer, nn.Conv2d) else 1.0
            _draw(layer.weight, scheme, _fans(layer), factor)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_lstm(lstm: nn.LSTM, scheme: Literal["orthogonal", "uniform"], forget_gate_bias: float) -> None:
    """Draw the weights of an LSTM of one layer, one direction and H units; its gates are stacked i, f, g, o.

    | weight    | orthogonal                                               | uniform          |
    |-----------|----------------------------------------------------------|------------------|
    | weight_hh | each gate orthogonal (Saxe et al. 2014, arXiv:1312.6120) | U(+-1 / sqrt(H)) |
    | weight_ih | each gate U(+-sqrt(6 / (n + H))) for n inputs            | U(+-1 / sqrt(H)) |

    Biases are 0, but the forget gate's is `forget_gate_bias`: 1 lets a cell remember from the start
    (Jozefowicz et al. 2015). torch adds two biases to each gate; all of it stands in `bias_ih_l0`.
    """
    units = lstm.hidden_size
    recurrent_weight, input_weight = lstm.get_parameter("weight_hh_l0"), lstm.get_parameter("weight_ih_l0")
    recurrent_bias, input_bias = lstm.get_parameter("bias_hh_l0"), lstm.get_parameter("bias_ih_l0")
    if scheme == "orthogonal":
        for gate in recurrent_weight.detach().chunk(4):
            nn.init.orthogonal_(gate)
        for gate in input_weight.detach().chunk(4):
            nn.init.xavier_uniform_(gate)
    else:
        for weight in (recurrent_weight, input_weight):
            nn.init.uniform_(weight, -1 / sqrt(units), 1 / sqrt(units))
    nn.init.zeros_(recurrent_bias)
    nn.init.zeros_(input_bias)
    nn.init.constant_(input_bias.detach()[units : 2 * units], forget_gate_bias)


def gain(activation: Activation) -> float:
    """Return the factor on the weights that keeps the spread of the signal through `activation`."""
    match activation:
        case "relu" | "gelu" | "silu":  # gelu and silu are relu's, smoothed
            return sqrt(2)
        case "leaky_relu":
            return sqrt(2 / (1 + LEAKY_SLOPE**2))
        case "tanh":
            return 5 / 3
        case "sigmoid" | "none":
            return 1.0


def _draw(weight: Tensor, scheme: Initialisation, fans: tuple[int, int], factor: float) -> None:
    fan_in, fan_out = fans
    match scheme:
        case "kaiming":
            nn.init.normal_(weight, std=factor / sqrt(fan_in))
        case "xavier":
            bound = sqrt(6 / (fan_in + fan_out))
            nn.init.uniform_(weight, -bound, bound)
        case "normal_small":
            nn.init.normal_(weight, std=SMALL)
        case "normal_large":
            nn.init.normal_(weight, std=LARGE)
        case "zeros":
            nn.init.zeros_(weight)
        case "default":
            return


def _fans(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[int, int]:
    """Return how many inputs one output sees, and how many outputs one input reaches."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    height, width = layer.kernel_size[0], layer.kernel_size[1]
    if isinstance(layer, nn.ConvTranspose2d):
        # The kernel is the stride, so windows do not overlap and an output sees one pixel.
        return layer.in_channels, layer.out_channels * height * width
    return layer.in_channels * height * width, layer.out_channels * height * width
