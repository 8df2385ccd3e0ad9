"""Residual connections (He, Zhang, Ren and Sun 2016, arXiv:1512.03385; Veit 2016, arXiv:1605.06431)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from trainyard.data.batches import gather
from trainyard.data.packed import Card
from trainyard.evaluation.figures import BLUE, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.loop import batch_loss, score, train_whole, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.models.build import NormalisedImages
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.initialisation import initialise
from trainyard.models.resnet import ResidualBlock
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe

CLAIM = (
    "Stacked deeper, plain layers at some depth learn worse, on the training samples too, although the deeper network could "
    "do all that the shallower one does. With a shortcut around every two layers, y = x + f(x), the gradient reaches the "
    "first layers past all others, and depth does no harm."
)
CHANGE = (
    "--set model.normalisation=none: nothing keeps the sums of a residual stack from growing with every block; look at the "
    "deepest."
)
BLOCKS = (1, 8, 24)
"""Of two convolutions each."""
KINDS = ("plain", "residual")
WIDTH = 16
"""Channels, instead of the 64 and more of a ResNet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By KINDS, then by BLOCKS."""

    loss: tuple[tuple[float, ...], ...]
    """On the training split, after training."""
    accuracy: tuple[tuple[float, ...], ...]
    """On the test split."""
    slopes: tuple[tuple[float, ...], ...]
    """Root mean square of the gradient in each block of the deepest network, untrained."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train stacks of each depth, with and without shortcuts."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    runs = [[_run(recipe, data, blocks, kind == "residual") for blocks in BLOCKS] for kind in KINDS]
    return Finding(
        loss=tuple(tuple(run[0] for run in of_kind) for of_kind in runs),
        accuracy=tuple(tuple(run[1] for run in of_kind) for of_kind in runs),
        slopes=tuple(of_kind[-1][2] for of_kind in runs),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {}
    for index, kind in enumerate(KINDS):
        for place, blocks in enumerate(BLOCKS):
            rows[f"{kind}, {2 * blocks} layers"] = (finding.loss[index][place], finding.accuracy[index][place])
    return Table(headers=("training loss", "test accuracy"), rows=rows)


def holds(finding: Finding) -> bool:
    """The deepest plain stack learns its training samples worse than a shallower one and than the residual one."""
    plain, residual = finding.loss
    return plain[-1] > 1.3 * min(plain[:-1]) and plain[-1] > 2 * residual[-1] and residual[-1] < residual[0]


def draw(finding: Finding, path: Path) -> Path:
    """Draw loss and accuracy by depth, and the gradient by block."""
    layers = [2 * blocks for blocks in BLOCKS]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.7), layout="constrained")
        loss, accuracy, slopes = figure.subplots(1, 3)
        for index, (kind, colour) in enumerate(zip(KINDS, (ORANGE, BLUE), strict=True)):
            loss.plot(layers, finding.loss[index], "o-", color=colour, linewidth=1.8, label=kind)
            accuracy.plot(layers, finding.accuracy[index], "o-", color=colour, linewidth=1.8, label=kind)
            slopes.plot(np.arange(1, BLOCKS[-1] + 1), finding.slopes[index], color=colour, linewidth=1.8, label=kind)
        for axes, title in ((loss, "Training loss"), (accuracy, "Test accuracy")):
            axes.set_title(title)
            axes.set_xlabel("layers")
            axes.set_xticks(layers)
            axes.grid(axis="y")
        loss.set_ylim(0, None)
        loss.legend(loc="upper left")
        accuracy.set_ylim(0, 1.03)
        slopes.set_yscale("log")
        slopes.set_title("Gradient by block, untrained")
        slopes.set_xlabel("block, from the image on")
        return save(figure, path)


class Stack(nn.Module):
    """A stem, blocks of a ResNet at full resolution, with or without their shortcuts, and a head."""

    def __init__(self, config: CNNConfig, in_channels: int, num_classes: int, blocks: int, residual: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, WIDTH, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config, WIDTH, WIDTH, stride=1) for _ in range(blocks)))
        if not residual:
            for block in self.blocks:
                block.shortcut = Nothing()
        self.head = nn.Linear(WIDTH, num_classes)
        initialise(self, config.initialisation, config.activation)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


class Nothing(nn.Module):
    """What stands for a shortcut that is not there."""

    def forward(self, features: Tensor) -> Tensor:
        """Return zeros of the same shape."""
        return torch.zeros_like(features)


def build_stack(recipe: Recipe, card: Card, blocks: int, residual: bool) -> NormalisedImages:
    """Return an untrained stack, drawn with the recipe's seed."""
    config, spec = recipe.model, InputSpec.from_card(card)
    if not isinstance(config, CNNConfig):
        raise TypeError(f"{recipe.name}: blocks of a ResNet are stacked, found family {recipe.family}")
    torch.manual_seed(recipe.train.seed)
    return NormalisedImages(Stack(config, spec.channels, len(spec.classes), blocks, residual), spec)


def _run(recipe: Recipe, data: Packed, blocks: int, residual: bool) -> tuple[float, float, tuple[float, ...]]:
    """Return loss on the training split and accuracy on the test split after training, and gradients before."""
    network = build_stack(recipe, data.card, blocks, residual)
    batch_loss(network, recipe, gather(data.train, np.arange(64), 1 / 64)).backward()  # type: ignore[no-untyped-call]
    slopes = []
    for block in network.network.get_submodule("blocks").children():
        weights = [layer.weight.grad for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        slopes.append(float(torch.cat([w.flatten() for w in weights if w is not None]).double().square().mean().sqrt()))
    train_whole(network, recipe, data.train)
    train, test = (score(network, recipe, [whole(split)]) for split in (data.train, data.test))
    return train.loss, test.accuracy, tuple(slopes)
