"""U-Net: what its skip connections, its depth and its upsampling are for (Ronneberger et al. 2015, arXiv:1505.04597)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.dense import parameters
from trainyard.lessons.loop import build, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.segmenters import VARIANTS, boundary_iou, config_of, labels_of, pattern, variants, wrong_class
from trainyard.lessons.style import STYLE
from trainyard.models.unet_config import receptive_field

CLAIM = (
    "The way down of a U-Net finds out what is there, and loses where; the skip connections bring it back. Without them the "
    "borders of digits are off; with a shallow way down the borders are right, and one digit is taken for another. "
    "Upsampling by a transposed convolution lays a pattern over its output, which interpolation does not; where it ends "
    "up after training is as good."
)
CHANGE = "--set model.depth=2: what is seen at the bottom is 18 pixels wide, less than a digit; look at what is taken for what."
COLOURS = (BLUE, ORANGE, ORANGE, GREY)
"""By VARIANTS."""
UPSAMPLINGS = {0: "transposed", 3: "bilinear"}
"""By place in VARIANTS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By VARIANTS; errors are of the test split."""

    parameters: tuple[int, ...]
    fields: tuple[int, ...]
    """Receptive field of a place at the bottom, in pixels."""
    where: tuple[float, ...]
    """Boundary IoU of digits, whichever, and background, one pixel deep."""
    what: tuple[float, ...]
    """Share of the pixels of digits, found as such, that are given to the wrong digit."""
    patterns: tuple[float, ...]
    """Spread of an untrained network's logits over an even grey image, relative to that over scenes."""
    trained_patterns: tuple[float, ...]
    image: tuple[tuple[float, ...], ...]
    """One scene, its mask, and what each makes of it."""
    mask: tuple[tuple[float, ...], ...]
    found: tuple[tuple[tuple[float, ...], ...], ...]
    grey: tuple[tuple[tuple[float, ...], ...], ...]
    """Logits of one class that untrained networks have for an even grey image, relative to their spread over scenes."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train each variant, and tell errors of place from errors of class."""
    base = recipes["scenes"]
    data = packed(base, root)
    batch = whole(data.test)
    images, truth = batch.inputs[0], batch.targets.numpy()
    results = []
    for recipe in variants(base, data.card):
        network = build(recipe, data.card)
        untrained, grey = pattern(network, images)
        train_whole(network, recipe, data.train)
        found = labels_of(network, images)
        errors = boundary_iou(truth > 0, found > 0), wrong_class(truth, found)
        size = parameters(network), receptive_field(config_of(recipe))
        results.append((size, errors, (untrained, pattern(network, images)[0]), found, grey))
    shown = int(np.argmax((truth > 0).sum(axis=(1, 2))))
    return Finding(
        parameters=tuple(result[0][0] for result in results),
        fields=tuple(result[0][1] for result in results),
        where=tuple(result[1][0] for result in results),
        what=tuple(result[1][1] for result in results),
        patterns=tuple(result[2][0] for result in results),
        trained_patterns=tuple(result[2][1] for result in results),
        image=_plain(images[shown, 0].numpy()),
        mask=_plain(truth[shown]),
        found=tuple(_plain(result[3][shown]) for result in results),
        grey=tuple(_plain(result[4]) for result in results),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    columns = (
        finding.parameters,
        finding.fields,
        finding.where,
        finding.what,
        finding.patterns,
        finding.trained_patterns,
    )
    rows = {name: tuple(map(float, values)) for name, values in zip(VARIANTS, zip(*columns, strict=True), strict=True)}
    headers = ("weights", "pixels seen", "where: boundary IoU", "what: wrong digit", "pattern, untrained", "pattern, trained")
    return Table(headers=headers, rows=rows)


def holds(finding: Finding) -> bool:
    """Without skips borders are off, when shallow the class is; a pattern is there with transposed convolutions alone."""
    full, blind, shallow, bilinear = range(len(VARIANTS))
    where, what = finding.where, finding.what
    placed = where[blind] < where[full] - 0.1 and where[shallow] > where[blind] + 0.1
    named = what[shallow] > 2 * what[full]
    even = finding.patterns[bilinear] < 1e-4 < 0.01 < finding.patterns[full]
    alike = abs(where[bilinear] - where[full]) < 0.1
    return placed and named and even and alike


def draw(finding: Finding, path: Path) -> Path:
    """Draw a scene, what each variant makes of it, errors of both kinds, and patterns on even grey."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 5.2), layout="constrained")
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.25)).flat
        panels = top.subplots(1, 2 + len(VARIANTS))
        panels[0].imshow(finding.image, cmap="gray", vmin=0, vmax=255)
        for axes, values in zip(panels[1:], (finding.mask, *finding.found), strict=True):
            axes.imshow(np.ma.masked_equal(values, 0), cmap="tab10", vmin=1, vmax=10, interpolation="nearest")
        for axes, title in zip(panels, ("scene", "mask", *VARIANTS), strict=True):
            _framed(axes, title)
        errors, patterns = bottom.subfigures(1, 2, squeeze=False, width_ratios=(1.75, 1)).flat
        where, what = errors.subplots(1, 2)
        _bars(where, finding.where, "Where: boundary IoU")
        _bars(what, finding.what, "What: taken for another digit")
        what.set_yticklabels([])
        patterns.suptitle("Untrained, on even grey: logits of one class", fontsize=11, fontweight="bold", x=0.02, ha="left")
        darkest = max(float(np.abs(finding.grey[place]).max()) for place in UPSAMPLINGS)
        for axes, (place, name) in zip(patterns.subplots(1, len(UPSAMPLINGS)), UPSAMPLINGS.items(), strict=True):
            axes.imshow(finding.grey[place], cmap="gray", vmin=-darkest, vmax=darkest, interpolation="nearest")
            _framed(axes, name)
        return save(figure, path)


def _framed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="center", fontweight="normal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


def _bars(axes: Axes, shares: tuple[float, ...], title: str) -> None:
    rows = range(len(VARIANTS))
    axes.barh(rows, shares, color=COLOURS, height=0.7)
    for row, value in zip(rows, shares, strict=True):
        axes.text(value, row, f" {value:.1%}", va="center")
    axes.set_yticks(rows, VARIANTS)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.22 * max(*shares, 0.01))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_title(title)


def _plain(values: NDArray[np.generic]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
