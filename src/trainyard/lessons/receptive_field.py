"""The receptive field, computed and measured (Araujo, Norris and Sim 2019; Luo et al. 2016, arXiv:1701.04128)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from trainyard.data.packed import Card
from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.loop import build
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.models.build import NormalisedImages
from trainyard.models.cnn import CNN
from trainyard.models.cnn_config import CNNConfig, halvings, receptive_field
from trainyard.recipe import Recipe

CLAIM = (
    "What one place of the last feature map can see of the image follows from kernels and strides alone: 1 + the sum over "
    "layers of (kernel - 1) times all strides before. What it does look at is much less, a soft spot in the middle, because "
    "few paths lead to the border and many to the centre."
)
CHANGE = "--set model.normalisation=group: its statistics are of the whole image, so every pixel is seen, whatever is computed."
VARIANTS: dict[str, dict[str, Any]] = {
    "as in the recipe": {},
    "kernel_size: 5": {"kernel_size": 5},
    "convolutions: 1": {"convolutions": 1},
    "convolutions: 4": {"convolutions": 4},
    "pooling: average": {"pooling": "average"},
    "pooling: stride": {"pooling": "stride"},
    "pooling: none": {"pooling": "none"},
    "pool_after: first": {"pool_after": "first"},
}
SHOWN = ("pooling: none", "as in the recipe", "convolutions: 4")
"""Whose spots are drawn."""
IMAGES = 16
"""Of noise; whatever is 0 for one of them is not for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By VARIANTS; sides in pixels."""

    computed: tuple[int, ...]
    measured: tuple[int, ...]
    """Between the outermost pixels that the middle of the feature map depends on."""
    effective: tuple[float, ...]
    """Of a square with as wide a spread as the squared slopes have."""
    spots: tuple[tuple[tuple[float, ...], ...], ...]
    """Slopes over the pixels that can be seen, for SHOWN."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Let the middle of each feature map say which pixels it depends on."""
    base = recipes["digits"]
    card = packed(base, root).card
    found = {}
    for name, changes in VARIANTS.items():
        model: Any = replace(base.model, **changes)
        found[name] = _look(replace(base, model=model), card)
    return Finding(
        computed=tuple(computed for computed, _, _, _ in found.values()),
        measured=tuple(measured for _, measured, _, _ in found.values()),
        effective=tuple(effective for _, _, effective, _ in found.values()),
        spots=tuple(tuple(map(tuple, found[name][3].tolist())) for name in SHOWN),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    columns = zip(VARIANTS, finding.computed, finding.measured, finding.effective, strict=True)
    rows = {name: (float(computed), float(measured), effective) for name, computed, measured, effective in columns}
    return Table(headers=("computed", "measured", "effective"), rows=rows)


def holds(finding: Finding) -> bool:
    """What is computed is what is measured, to the pixel; half of it or less counts in the deepest, and less in most."""
    shares = [effective / computed for effective, computed in zip(finding.effective, finding.computed, strict=True)]
    deepest = shares[list(VARIANTS).index("convolutions: 4")]
    return finding.measured == finding.computed and deepest < 0.6 and float(np.median(shares)) < 0.75


def draw(finding: Finding, path: Path) -> Path:
    """Draw three spots, and all sides."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.8), layout="constrained")
        *spots, sides = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.9))
        names = list(VARIANTS)
        for axes, name, values in zip(spots, SHOWN, finding.spots, strict=True):
            index = names.index(name)
            side, effective = finding.computed[index], finding.effective[index]
            axes.imshow(np.sqrt(np.array(values)), cmap="Blues")
            corner = (side - 1 - effective) / 2
            axes.add_patch(Rectangle((corner, corner), effective, effective, fill=False, edgecolor=ORANGE, linewidth=1.5))
            axes.set_title(f"{name}\n{side} pixels a side", fontsize=9.5)
            axes.set_xticks([])
            axes.set_yticks([])
        rows = np.arange(len(names))
        sides.barh(rows, finding.computed, color=GREY, height=0.7, label="can be seen")
        sides.barh(rows, finding.effective, color=ORANGE, height=0.35, label="counts (the square)")
        sides.plot(finding.measured, rows, "|", color=BLUE, markersize=16, markeredgewidth=2.5, label="measured")
        sides.set_yticks(rows, names)
        sides.invert_yaxis()
        sides.set_title("Receptive field, pixels a side")
        sides.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=3, fontsize=8.5)
        return save(figure, path)


def _look(recipe: Recipe, card: Card) -> tuple[int, int, float, NDArray[np.float64]]:
    """Return the receptive field as computed, as measured, and as it counts; and slopes over what was computed."""
    config = recipe.model
    outer = build(recipe, card).eval()
    if not isinstance(config, CNNConfig) or not isinstance(outer, NormalisedImages) or not isinstance(outer.network, CNN):
        raise TypeError(f"{recipe.name}: feature maps of a CNN are looked into, found family {recipe.family}")
    network = outer.network
    computed, multiple = receptive_field(config), 2 ** halvings(config)
    size = -(-2 * computed // multiple) * multiple
    images = torch.randn((IMAGES, card.input["channels"], size, size), requires_grad=True)
    features = network.blocks(network.stem(images))
    middle = features.shape[2] // 2
    # Random signs, so that channels do not cancel out alike in all images.
    signs = torch.randn(features.shape[:2])
    (slopes,) = torch.autograd.grad((features[:, :, middle, middle] * signs).sum(), images)
    energy = slopes.square().sum(dim=(0, 1)).double().numpy()
    profile = energy.sum(axis=0) + energy.sum(axis=1)
    seen = np.flatnonzero(profile)
    first = int(seen[0])
    places = np.arange(size)
    mean = float((profile * places).sum() / profile.sum())
    spread = math.sqrt(float((profile * (places - mean) ** 2).sum() / profile.sum()))
    window = slice(first, first + computed)
    return computed, int(seen[-1]) - first + 1, spread * math.sqrt(12), energy[window, window]
