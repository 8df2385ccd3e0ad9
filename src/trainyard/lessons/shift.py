"""Convolution and pooling, and what a shifted image does (LeCun et al. 1998; Zhang 2019, arXiv:1904.11486)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from trainyard.data.packed import Split
from trainyard.evaluation.figures import BLUE, GREEN, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.dense import build_dense
from trainyard.lessons.loop import build, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE

CLAIM = (
    "A convolution looks for the same thing everywhere: if the image moves, its feature map moves along, and the mean over "
    "all places stays. So a CNN that saw digits only in the middle knows them elsewhere, and a dense network does not. "
    "Pooling is said to make this safer; in truth it keeps every second place, and a shift by one pixel changes what is "
    "kept."
)
CHANGE = "--set train.augment.shift=4: shown moved digits, the dense network learns each place for itself, and still lags."
SHIFTS = (0, 1, 2, 3, 4)
"""Pixels, in each of four directions."""
NETWORKS = ("dense", "convolutions, max pooling", "convolutions, no pooling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By NETWORKS, then by SHIFTS."""

    accuracy: tuple[tuple[float, ...], ...]
    """On moved test images."""
    change: tuple[tuple[float, ...], ...]
    """Of the logits, relative to how much they differ from image to image."""
    examples: tuple[tuple[tuple[float, ...], ...], ...]
    """One test image at each shift, 0 to 255."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train on digits in the middle, test on moved ones."""
    base = recipes["canvas"]
    data = packed(base, root)
    unpooled = varied(base, "model.pooling", "none")
    networks = (build_dense(base, data.card, (64,)), build(base, data.card), build(unpooled, data.card))
    found = []
    for network, recipe in zip(networks, (base, base, unpooled), strict=True):
        train_whole(network, recipe, data.train)
        found.append(_moved(network.eval(), data.test))
    image = whole(data.test).inputs[0][:1]
    return Finding(
        accuracy=tuple(accuracy for accuracy, _ in found),
        change=tuple(change for _, change in found),
        examples=tuple(tuple(tuple(row) for row in torch.roll(image, by, dims=3)[0, 0].tolist()) for by in SHIFTS),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {}
    for index, name in enumerate(NETWORKS):
        accuracy = finding.accuracy[index]
        rows[name] = (accuracy[0], accuracy[1], accuracy[2], accuracy[4], finding.change[index][1])
    return Table(headers=("accuracy", "moved by 1", "moved by 2", "moved by 4", "logits change by 1 pixel"), rows=rows)


def holds(finding: Finding) -> bool:
    """The CNNs know moved digits, the dense network does not; without pooling nothing changes, with it something does."""
    dense, pooled, plain = table(finding).rows.values()
    learned = min(dense[0], pooled[0], plain[0]) > 0.8
    keeps = all(moved > max(0.5, other) for moved, other in zip(pooled[1:4], dense[1:4], strict=True))
    still = max(abs(moved - plain[0]) for moved in plain[1:4]) < 0.01
    return learned and keeps and still and dense[2] < 0.5 and plain[4] < 1e-4 and pooled[4] > 1e-2


def draw(finding: Finding, path: Path) -> Path:
    """Draw moved images, accuracy, and how much the logits change."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 5.2), layout="constrained")
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.9)).flat
        for axes, by, image in zip(top.subplots(1, len(SHIFTS)), SHIFTS, finding.examples, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title("as trained" if not by else f"moved by {by}", fontsize=9)
        accuracy, change = bottom.subplots(1, 2)
        for index, (name, colour) in enumerate(zip(NETWORKS, (ORANGE, BLUE, GREEN), strict=True)):
            accuracy.plot(SHIFTS, finding.accuracy[index], "o-", color=colour, linewidth=1.8, label=name)
            change.plot(SHIFTS[1:], finding.change[index][1:], "o-", color=colour, linewidth=1.8)
        accuracy.set_ylim(0, 1.03)
        accuracy.set_title("Accuracy on moved digits")
        accuracy.legend(loc="center right")
        change.set_yscale("log")
        change.set_title("Change of the logits")
        for axes in (accuracy, change):
            axes.set_xticks(SHIFTS)
            axes.set_xlabel("pixels moved")
            axes.grid(axis="y")
        return save(figure, path)


@torch.no_grad()
def _moved(network: nn.Module, split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return accuracy, and the relative change of the logits, by shift; each is the mean of four directions."""
    batch = whole(split)
    images: Tensor = batch.inputs[0]
    still = network(images)
    spread = (still - still.mean(dim=0)).norm()
    accuracy, change = [], []
    for by in SHIFTS:
        # Nothing but black leaves the canvas, and comes in on the other side.
        logits = [network(torch.roll(images, sign * by, dims=dim)) for dim in (2, 3) for sign in (1, -1)]
        accuracy.append(sum(float((found.argmax(dim=1) == batch.targets).double().mean()) for found in logits) / 4)
        change.append(sum(float((found - still).norm() / spread) for found in logits) / 4)
    return tuple(accuracy), tuple(change)
