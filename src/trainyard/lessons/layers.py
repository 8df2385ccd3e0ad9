"""Layers, each more abstract than the one before (Zeiler and Fergus 2014, arXiv:1311.2901; Alain and Bengio 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from trainyard.data.packed import Split
from trainyard.evaluation.figures import BLUE, GREY, save
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.loop import build, score, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.models.build import NormalisedImages
from trainyard.models.cnn import CNN
from trainyard.recipe import Recipe

CLAIM = (
    "A network is layers, and each answers to something more abstract than the one before: first edges in places, at last "
    "the class. So among the mean activations of a layer's channels, classes lie the farther apart the deeper the layer is; "
    "training makes it so: in an untrained network they hardly do."
)
CHANGE = "--set model.widths=[16,32,64]: a third block; --set model.widths=[16]: one only."
CHANNELS = 8
"""Of each layer, that are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By layer: the convolutions, each after its activation."""

    names: tuple[str, ...]
    apart: tuple[float, ...]
    """Share of the channels' variance that lies between classes, on test images, trained."""
    untrained: tuple[float, ...]
    """The same before training."""
    accuracy: float
    """Of the trained network, on the test split."""
    image: tuple[tuple[float, ...], ...]
    filters: tuple[tuple[tuple[float, ...], ...], ...]
    """Of the first layer."""
    maps: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
    """By layer and channel, what the image becomes."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train, and look at every layer before and after."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    outer = build(recipe, data.card)
    before, _ = _look(outer, recipe, data.test)
    train_whole(outer, recipe, data.train)
    after, maps = _look(outer, recipe, data.test)
    first = next(layer for layer in outer.modules() if isinstance(layer, nn.Conv2d))
    batch = whole(data.test)
    return Finding(
        names=tuple(f"layer {number + 1}" for number in range(len(after))),
        apart=tuple(after),
        untrained=tuple(before),
        accuracy=score(outer, recipe, [batch]).accuracy,
        image=_plain(batch.inputs[0][0, 0]),
        filters=tuple(_plain(kernel) for kernel in first.weight.detach()[:CHANNELS, 0]),
        maps=tuple(tuple(_plain(channel) for channel in layer[:CHANNELS]) for layer in maps),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows: dict[str, tuple[float, ...]] = {
        name: (apart, untrained) for name, apart, untrained in zip(finding.names, finding.apart, finding.untrained, strict=True)
    }
    return Table(headers=("trained", "untrained"), rows={**rows, "test accuracy": (finding.accuracy,)})


def holds(finding: Finding) -> bool:
    """Classes lie farther apart from each layer to the next but one, and at the end far more than without training."""
    rises = all(deeper > finding.apart[index] for index, deeper in enumerate(finding.apart[2:]))
    return rises and finding.apart[-1] > 1.5 * finding.apart[0] and finding.apart[-1] > 1.5 * finding.untrained[-1]


def draw(finding: Finding, path: Path) -> Path:
    """Draw the image, the first filters, what each layer makes of it, and how far it tells classes apart."""
    layers = len(finding.maps)
    with rc_context({**STYLE, "axes.titlesize": 9}):
        figure = Figure(figsize=(11.4, 0.82 * (layers + 1) + 0.5), layout="constrained")
        pictures, chart = figure.subfigures(1, 2, squeeze=False, width_ratios=(2.2, 1)).flat
        grid = pictures.subplots(layers + 1, CHANNELS + 1)
        for row, cells in enumerate(grid):
            found = finding.filters if row == 0 else finding.maps[row - 1]
            for axes in cells:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.set_frame_on(False)
            cells[0].set_ylabel("filters" if row == 0 else finding.names[row - 1], rotation=0, ha="right", va="center")
            if row == 0:
                cells[0].imshow(finding.image, cmap="gray")
                cells[0].set_title("image")
            for axes, values in zip(cells[1:], found, strict=False):
                largest = float(np.abs(values).max()) or 1.0
                if row == 0:
                    axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
                else:
                    axes.imshow(values, cmap="gray", vmin=0, vmax=largest)
        axes = chart.subplots()
        places = np.arange(layers)
        axes.bar(places - 0.2, finding.untrained, 0.38, color=GREY, label="untrained")
        axes.bar(places + 0.2, finding.apart, 0.38, color=BLUE, label="trained")
        axes.set_xticks(places, finding.names)
        axes.set_title("Share of variance between classes")
        axes.legend(loc="upper left")
        return save(figure, path)


@torch.no_grad()
def _look(outer: nn.Module, recipe: Recipe, split: Split) -> tuple[list[float], list[Tensor]]:
    """Return how far apart each layer puts the classes, and the feature maps (C, H, W) of the first image."""
    if not isinstance(outer, NormalisedImages) or not isinstance(outer.network, CNN):
        raise TypeError(f"{recipe.name}: feature maps of a CNN are looked into, found family {recipe.family}")
    batch = whole(split)
    outer.eval()
    features, apart, maps = outer.network.stem(outer.normalise(batch.inputs[0])), [], []
    kind = type(next(layer for layer in outer.network.blocks.modules() if _is_activation(layer)))
    for block in outer.network.blocks:
        for layer in block if isinstance(block, nn.Sequential) else [block]:
            features = layer(features)
            if isinstance(layer, kind):
                apart.append(_between(features.mean(dim=(2, 3)).double().numpy(), batch.targets.numpy()))
                maps.append(features[0].clone())
    return apart, maps


def _is_activation(layer: nn.Module) -> bool:
    return type(layer).__module__ == "torch.nn.modules.activation"


def _between(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the share of the variance of values (N, C) that lies between classes, summed over channels (eta squared)."""
    total = ((values - values.mean(axis=0)) ** 2).sum()
    between = 0.0
    for label in np.unique(labels):
        own = values[labels == label]
        between += len(own) * ((own.mean(axis=0) - values.mean(axis=0)) ** 2).sum()
    return float(between / total)


def _plain(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 4) for value in row) for row in values.tolist())
