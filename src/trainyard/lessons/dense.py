"""A network of dense layers, to compare convolutions with: every pixel has a weight of its own to every unit.

It stands here and not in models/, because it takes images of one size only and is worse at them than what is there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from trainyard.data.packed import Card
from trainyard.models.activation import activation
from trainyard.models.build import NormalisedImages
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.initialisation import initialise
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe


def build_dense(recipe: Recipe, card: Card, widths: tuple[int, ...] | None = None) -> NormalisedImages:
    """Return dense layers of `widths` (else those of the recipe) units, with its activation, initialisation and seed."""
    config, spec = recipe.model, InputSpec.from_card(card)
    if not isinstance(config, CNNConfig):
        raise TypeError(f"{recipe.name}: a dense network takes the place of a CNN, found family {recipe.family}")
    torch.manual_seed(recipe.train.seed)
    sizes = (spec.channels * spec.height * spec.width, *(config.widths if widths is None else widths))
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation(config.activation)]
    layers += [nn.Dropout(config.dropout), nn.Linear(sizes[-1], len(spec.classes))]
    network = nn.Sequential(*layers)
    initialise(network, config.initialisation, config.activation)
    return NormalisedImages(network, spec)


def parameters(network: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
