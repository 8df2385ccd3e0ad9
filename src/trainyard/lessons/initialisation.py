"""Weight initialisation: Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.evaluation.figures import BLUE, GREEN, GREY, INK, MUTED, ORANGE, RED, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import batch_loss, build, score, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.models.cnn_config import Initialisation
from trainyard.recipe import Recipe

CLAIM = (
    "A layer multiplies the scale of its signal by the scale of its weights. In a deep network too small weights let signal "
    "and gradient die out, too large ones let them explode, zeros keep all units alike; kaiming's sqrt(2 / inputs) keeps a "
    "relu network's signal as it is, so the first loss is near ln(classes) and it learns. xavier, made for tanh, loses a "
    "half a layer."
)
CHANGE = "--set model.normalisation=group: each layer puts the scale right again, and the claim falls."
SCHEMES: tuple[Initialisation, ...] = get_args(Initialisation)
BATCH = 64
"""Images that are looked at."""
COLOURS = (BLUE, GREEN, ORANGE, RED, INK, GREY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By scheme, in the order of SCHEMES."""

    classes: int
    signal: tuple[tuple[float, ...], ...]
    """Standard deviation of each convolution's output at the beginning."""
    gradient: tuple[tuple[float, ...], ...]
    """Root mean square of each convolution's gradient at the beginning."""
    first_loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    """On the validation split, after training."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Look into the untrained network, then train it, for each scheme."""
    base = recipes["deep"]
    data = packed(base, root)
    looks, accuracy = [], []
    for scheme in SCHEMES:
        recipe = varied(base, "model.initialisation", scheme)
        network = build(recipe, data.card)
        looks.append(_look(network, recipe, data.train))
        train_whole(network, recipe, data.train)
        accuracy.append(score(network, recipe, [whole(data.val)]).accuracy)
    return Finding(
        classes=len(data.card.classes),
        first_loss=tuple(look[0] for look in looks),
        signal=tuple(look[1] for look in looks),
        gradient=tuple(look[2] for look in looks),
        accuracy=tuple(accuracy),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows: dict[str, tuple[float, ...]] = {}
    for index, scheme in enumerate(SCHEMES):
        signal = finding.signal[index]
        gain = signal[-1] / signal[0] if signal[0] else 0.0
        rows[scheme] = (finding.first_loss[index], gain, finding.gradient[index][0], finding.accuracy[index])
    return Table(headers=("first loss", "signal, last / first layer", "gradient, first layer", "accuracy"), rows=rows)


def holds(finding: Finding) -> bool:
    """kaiming keeps the signal and learns best; zeros and small weights do not learn, large ones explode."""
    at = {scheme: row for scheme, row in table(finding).rows.items()}
    guessing = math.log(finding.classes)
    keeps = 0.05 < at["kaiming"][1] < 5 and at["kaiming"][0] < 3 * guessing
    dies = at["normal_small"][1] < 1e-6 and abs(at["zeros"][0] - guessing) < 1e-4 and at["zeros"][2] == 0
    explodes = at["normal_large"][1] > 1e6 and at["normal_large"][0] > 100 * guessing
    learns = max(at["zeros"][3], at["normal_small"][3]) < 0.3 and at["kaiming"][3] > 0.7
    return keeps and dies and explodes and learns and at["xavier"][1] < 0.2 * at["kaiming"][1]


def draw(finding: Finding, path: Path) -> Path:
    """Draw signal and gradient by depth, and what training makes of it."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.8), layout="constrained")
        signal, gradient, accuracy = figure.subplots(1, 3)
        for index, (scheme, colour) in enumerate(zip(SCHEMES, COLOURS, strict=True)):
            depth = np.arange(1, len(finding.signal[index]) + 1)
            for axes, values in ((signal, finding.signal[index]), (gradient, finding.gradient[index])):
                # A logarithm has no place for zero.
                axes.plot(depth, np.where(np.array(values) > 0, values, np.nan), "o-", color=colour, markersize=3, label=scheme)
        for axes, title in ((signal, "Signal by layer, untrained"), (gradient, "Gradient by layer, untrained")):
            axes.set_yscale("log")
            axes.set_title(title)
            axes.set_xlabel("layer")
            axes.grid(axis="y")
        rows = np.arange(len(SCHEMES))
        accuracy.barh(rows, finding.accuracy, color=COLOURS, height=0.7)
        for row, value in zip(rows, finding.accuracy, strict=True):
            accuracy.text(value + 0.02, row, f"{value:.2f}", va="center")
        accuracy.set_yticks(rows, SCHEMES)
        accuracy.invert_yaxis()
        accuracy.set_xlim(0, 1.15)
        accuracy.set_title("Accuracy after training")
        figure.supxlabel("zeros: 0 in every layer, which a logarithm cannot show", fontsize=9, color=MUTED)
        return save(figure, path)


def _look(network: nn.Module, recipe: Recipe, split: Split) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return the loss of a network's first batch, and the scale of signal and gradient in each convolution."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    signal: list[float] = []

    def note(layer: nn.Module, inputs: object, output: Tensor) -> None:
        signal.append(float(output.detach().double().std()))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    batch = gather(split, np.arange(BATCH), 1 / BATCH)
    loss = batch_loss(network, recipe, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    slopes = [layer.weight.grad for layer in layers]
    scale = tuple(float(slope.double().square().mean().sqrt()) if slope is not None else 0.0 for slope in slopes)
    return float(loss.detach()), tuple(signal), scale
