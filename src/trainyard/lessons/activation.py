"""Activation functions: without one, layers of weights multiply to a single matrix (Minsky and Papert 1969; Cybenko 1989)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from trainyard.evaluation.figures import BLUE, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.dense import build_dense
from trainyard.lessons.loop import score, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.models.cnn_config import Activation

CLAIM = (
    "Layers of weights without an activation between them are one layer: f(a) + f(b) - f(0) = f(a + b), at any depth. Such "
    "a network draws one straight line, and cannot tell a disc from the ring around it; with an activation it can."
)
CHANGE = "--set rings.model.widths=[2]: with two units, relu has two folds, and no closed border around the disc either."
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
GRID = 61
"""Points along each side of the picture of what the network says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By activation, in the order of ACTIVATIONS."""

    deviation: tuple[float, ...]
    """Of f(a) + f(b) - f(0) from f(a + b), relative to it."""
    accuracy: tuple[float, ...]
    """On the test split."""
    one_layer: float
    """Accuracy of a network without hidden layers."""
    maps: tuple[tuple[tuple[float, ...], ...], ...]
    """Probability of `ring` over the plane."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train the same layers with each activation between them, and a single layer."""
    base = recipes["rings"]
    data = packed(base, root)
    deviation, accuracy, maps = [], [], []
    for activation in ACTIVATIONS:
        recipe = varied(base, "model.activation", activation)
        network = build_dense(recipe, data.card)
        train_whole(network, recipe, data.train)
        deviation.append(_deviation(network.network))
        accuracy.append(score(network, recipe, [whole(data.test)]).accuracy)
        maps.append(_map(network))
    single = build_dense(base, data.card, widths=())
    train_whole(single, base, data.train)
    return Finding(
        deviation=tuple(deviation),
        accuracy=tuple(accuracy),
        one_layer=score(single, base, [whole(data.test)]).accuracy,
        maps=tuple(maps),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    pairs = zip(ACTIVATIONS, finding.accuracy, finding.deviation, strict=True)
    rows: dict[str, tuple[float, ...]] = {name: (accuracy, deviation) for name, accuracy, deviation in pairs}
    return Table(headers=("test accuracy", "deviation from linear"), rows={**rows, "no hidden layer": (finding.one_layer, 0.0)})


def holds(finding: Finding) -> bool:
    """Without an activation all is linear and fails like one layer; with any other one the rings are told apart."""
    found = dict(zip(ACTIVATIONS, finding.accuracy, strict=True))
    bent = dict(zip(ACTIVATIONS, finding.deviation, strict=True))
    flat = found.pop("none"), bent.pop("none")
    fails = flat[0] < 0.75 and finding.one_layer < 0.75 and flat[1] < 1e-4
    return fails and min(bent.values()) > 0.01 and min(found[name] for name in ("relu", "tanh", "gelu")) > 0.95


def draw(finding: Finding, path: Path) -> Path:
    """Draw what each network says of every point of the plane."""
    colours = LinearSegmentedColormap.from_list("rings", [BLUE, "white", ORANGE])
    with rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(11.4, 2.25), layout="constrained")
        panels = figure.subplots(1, len(ACTIVATIONS))
        circle = np.linspace(0, 2 * np.pi, 100)
        for axes, name, accuracy, values in zip(panels, ACTIVATIONS, finding.accuracy, finding.maps, strict=True):
            axes.imshow(values, cmap=colours, vmin=0, vmax=1, origin="lower", extent=(0, 255, 0, 255))
            for radius in (45, 65, 110):
                axes.plot(128 + radius * np.cos(circle), 128 + radius * np.sin(circle), color="black", linewidth=0.6)
            axes.set_title(f"{name}: {accuracy:.2f}", fontsize=10)
            axes.set_xticks([])
            axes.set_yticks([])
        figure.supxlabel(
            "blue: disc, orange: ring, as the network says; lines: where they are; test accuracy above", fontsize=9
        )
        return save(figure, path)


@torch.no_grad()
def _deviation(network: nn.Module) -> float:
    """Return how far a network (N, 1, 1, 2) -> (N, 2) is from f(a) + f(b) - f(0) = f(a + b)."""
    points = torch.randn((2, 500, 1, 1, 2), generator=torch.Generator().manual_seed(0))
    network.eval()
    together = network(points[0] + points[1])
    apart = network(points[0]) + network(points[1]) - network(torch.zeros(1, 1, 1, 2))
    return float((apart - together).norm() / together.norm())


@torch.no_grad()
def _map(network: nn.Module) -> tuple[tuple[float, ...], ...]:
    side = torch.linspace(0, 255, GRID)
    plane = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).reshape(-1, 1, 1, 2)
    ring: Tensor = network(plane).softmax(dim=1)[:, 1].reshape(GRID, GRID)
    return tuple(tuple(round(value, 3) for value in row) for row in ring.tolist())
