"""Cost functions: cross-entropy against the squared error (Solla, Levin and Fleisher 1988; Nielsen 2015, chapter 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import build, score, train_by_epoch, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.recipe import Recipe
from trainyard.tasks.losses import sample_losses

CLAIM = (
    "Where a network is sure of a wrong class, the squared error of its probabilities has a slope near 0, and cross-entropy "
    "its largest one. From such a beginning, cross-entropy learns in steps in which the squared error does not yet move."
)
CHANGE = "--set train.epochs=15: from an ordinary beginning the squared error comes close; from the sure one it has not moved."
LOSSES = ("cross_entropy", "mse")
RATES = (0.1, 0.3, 1.0)
"""Learning rates; each loss is shown at its best one, as slopes of different sizes want different ones."""
SURE = 12.0
"""What is added to the logit of one class, so that a network is sure of it whatever it sees."""
LOGITS = tuple(float(value) for value in np.linspace(-10, 10, 81))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By loss, in the order of LOSSES."""

    slopes: tuple[tuple[float, ...], ...]
    """Of the loss by the logit of the true one of two classes, for each of LOGITS."""
    sure: tuple[tuple[float, ...], ...]
    """Accuracy after each epoch, from a beginning that is sure of one class; at the best rate."""
    fair: tuple[tuple[float, ...], ...]
    """The same from an ordinary beginning."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Compute slopes; train with both losses from a bad and an ordinary beginning."""
    data = packed(recipes["digits"], root)
    chosen = [varied(recipes["digits"], "train.loss", loss) for loss in LOSSES]
    return Finding(
        slopes=tuple(_slopes(recipe) for recipe in chosen),
        sure=tuple(_best(recipe, data, SURE) for recipe in chosen),
        fair=tuple(_best(recipe, data, 0.0) for recipe in chosen),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {}
    for index, loss in enumerate(LOSSES):
        wrong, sure, fair = finding.slopes[index][0], finding.sure[index], finding.fair[index]
        rows[loss] = (abs(wrong), sure[0], sure[-1], fair[-1])
    headers = ("slope where sure and wrong", "accuracy, epoch 1", "accuracy, last epoch", "the same, ordinary beginning")
    return Table(headers=headers, rows=rows)


def holds(finding: Finding) -> bool:
    """Cross-entropy's slope is a hundred times as steep there, and it learns what the squared error has not begun to."""
    entropy, squared = (table(finding).rows[loss] for loss in LOSSES)
    return entropy[0] > 100 * squared[0] and entropy[2] > squared[2] + 0.2


def draw(finding: Finding, path: Path) -> Path:
    """Draw the slopes, and accuracy by epoch from both beginnings."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.7), layout="constrained")
        slopes, *curves = figure.subplots(1, 3)
        for index, (name, colour) in enumerate(zip(("cross-entropy", "squared error"), (BLUE, ORANGE), strict=True)):
            slopes.plot(LOGITS, finding.slopes[index], color=colour, linewidth=1.8, label=name)
            for axes, values in zip(curves, (finding.sure[index], finding.fair[index]), strict=True):
                axes.plot(range(1, len(values) + 1), values, "o-", color=colour, markersize=4, label=name)
        slopes.axvline(0, color=GREY, linewidth=1)
        slopes.set_title("Slope of the loss")
        slopes.set_xlabel("logit of the true class (left: sure, and wrong)")
        for axes, title in zip(curves, ("From a beginning sure of one class", "From an ordinary beginning"), strict=True):
            axes.set_ylim(0, 1)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        curves[0].set_ylabel("validation accuracy")
        slopes.legend(loc="lower right")
        return save(figure, path)


def _slopes(recipe: Recipe) -> tuple[float, ...]:
    """Return the slope of the loss by the true class's logit, where the other of two classes has 0."""
    logits = torch.tensor([[value, 0.0] for value in LOGITS], requires_grad=True)
    sample_losses(logits, torch.zeros(len(LOGITS), dtype=torch.int64), recipe.train, None).sum().backward()  # type: ignore[no-untyped-call]
    slopes = logits.grad
    return () if slopes is None else tuple(slopes[:, 0].tolist())


def _best(recipe: Recipe, data: Packed, sure: float) -> tuple[float, ...]:
    """Return the accuracy after each epoch, at the rate of RATES with the best last one."""
    curves = [_curve(varied(recipe, "train.learning_rate", rate), data, sure) for rate in RATES]
    return max(curves, key=lambda curve: curve[-1])


def _curve(recipe: Recipe, data: Packed, sure: float) -> tuple[float, ...]:
    network = build(recipe, data.card)
    with torch.no_grad():
        _head(network)[0] += sure
    return tuple(score(network, recipe, [whole(data.val)]).accuracy for _ in train_by_epoch(network, recipe, data.train))


def _head(network: nn.Module) -> nn.Parameter:
    """Return the bias of the last layer (K,)."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1].bias
