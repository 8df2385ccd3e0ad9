"""A plain recurrent network, h = tanh(W x + U h + b) (Elman 1990), and the gates of an LSTM made visible.

It stands here and not in models/, because the LSTM does better at all that it could be used for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainyard.data.packed import Card
from trainyard.lessons.loop import build
from trainyard.models.lstm import LSTM
from trainyard.models.lstm_config import LSTMConfig
from trainyard.recipe import Recipe

GATES = ("input", "forget", "candidate", "output")
"""In the order in which torch stacks them."""


def build_lstm(recipe: Recipe, card: Card) -> LSTM:
    """Return the untrained network of a recipe of family lstm."""
    network = build(recipe, card)
    if not isinstance(network, LSTM):
        raise TypeError(f"{recipe.name}: the lesson is about an LSTM over words, found family {recipe.family}")
    return network


def build_plain(recipe: Recipe, card: Card) -> LSTM:
    """Return the network of a recipe with one plain layer in the place of the LSTM's cells; all else is the same."""
    network, config = build_lstm(recipe, card), recipe.model
    if not isinstance(config, LSTMConfig):
        raise TypeError(f"{recipe.name}: a plain network takes the place of an LSTM, found family {recipe.family}")
    size = network.forward_layers[0].get_parameter("weight_ih_l0").shape[1]
    layer = nn.RNN(size, config.hidden_size, batch_first=True)  # torch's own draw: U(+-1 / sqrt(H))
    if config.recurrent_initialisation == "orthogonal":
        nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"))
    network.forward_layers = nn.ModuleList([layer])
    return network


@torch.no_grad()
def gates(layer: nn.LSTM, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the four gates (4, T, H) of an LSTM as it reads features (T, F), in the order of GATES, and its output (T, H)."""
    inputs, recurrent = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
    bias = layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")
    output, cell = torch.zeros(layer.hidden_size), torch.zeros(layer.hidden_size)
    opened, outputs = [], []
    for step in features:
        i, f, g, o = (inputs @ step + recurrent @ output + bias).chunk(4)
        gate = torch.stack((i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()))
        cell = gate[1] * cell + gate[0] * gate[2]
        output = gate[3] * cell.tanh()
        opened.append(gate)
        outputs.append(output)
    return torch.stack(opened, dim=1), torch.stack(outputs)
