"""Figures of a report: learning curves, confusion matrix, and the classes of model and baseline side by side.

Drawn on matplotlib's Agg canvas without pyplot, so that no window system and no global state is touched.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray

from trainyard.evaluation.lettering import families, fill, shorten
from trainyard.evaluation.metrics import Floats
from trainyard.tasks.primary import LOWER_IS_BETTER, merit

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ee"
BLUE, ORANGE, GREY = "#2563c9", "#e07b26", "#b4bcc8"
GREEN, RED = "#23864f", "#c93434"
STYLE: dict[Any, Any] = {
    "font.family": families(font.name for font in fontManager.ttflist),
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    # A text or class name with two dollar signs is not a formula.
    "text.parse_math": False,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.dpi": 110,
    "savefig.facecolor": "white",
}
MOST_COUNTED_CLASSES = 16
"""A larger confusion matrix shows colours alone; its numbers would be too small to read."""
PEAK = 50
"""Times the median loss from which on the axis is logarithmic."""
MOST_NAMED_CLASSES = 40
"""Of more classes, a matrix names some, and bars are drawn for the lowest and the highest ones."""


def learning_curves(history_path: Path, primary: str, path: Path) -> Path:
    """Draw the losses and the primary metric of every epoch in history.csv; the best epoch is marked."""
    with history_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    names = ("train/loss", "val/loss", f"val/{primary}")
    columns = {name: [float(row[name]) for row in rows] for name in names}
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        marker = "o" if len(epochs) < 3 else ""
        for name, colour in (("train", ORANGE), ("val", BLUE)):
            losses.plot(epochs, columns[f"{name}/loss"], colour, marker=marker, linewidth=1.8, label=name)
        if _has_peak([*columns["train/loss"], *columns["val/loss"]]):
            losses.set_yscale("log")
            # The usual labels are formulas, which no figure here reads.
            losses.yaxis.set_major_formatter("{x:g}")
        losses.set_title("Loss")
        losses.legend(loc="upper right")
        values = columns[f"val/{primary}"]
        scores.plot(epochs, values, BLUE, marker=marker, linewidth=1.8)
        _mark_best(scores, epochs, values, primary)
        scores.set_title(f"Validation {readable(primary)}")
        for axes in (losses, scores):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.margins(x=0.02)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(epochs) == 1:
                axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
                axes.set_xticks(epochs)
        return save(figure, path)


def confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str], unit: str, path: Path) -> Path:
    """Draw a confusion matrix (K, K), true classes in rows: colours are shares of a row, numbers counts."""
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.5 * count, 4.6, 13))
    with rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if count <= MOST_COUNTED_CLASSES:
            _write_counts(axes, confusion, shares)
        name_ticks(axes, classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(f"Confusion matrix: {unit}")
        bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, ticks=[0, 0.5, 1], format="{x:.0%}")
        bar.set_label("share of the true class", color=MUTED, fontsize=8.5)
        bar.ax.spines["outline"].set_visible(False)
        return save(figure, path)


def class_bars(
    model: Floats, baseline: Floats | None, classes: Sequence[str], metric: str, description: str, path: Path
) -> Path:
    """Draw a metric of each class (K,) for the model and, where there is one, the baseline.

    Of very many classes, those are drawn that the model does worst and best. Classes that the split lacks are not among them.
    """
    notes = [] if baseline is None else [f"baseline: {description}"]
    if len(classes) > MOST_NAMED_CLASSES:
        shown, which = _ends(model, MOST_NAMED_CLASSES // 2)
        notes.insert(0, f"of {len(classes):,} classes, {which}; all of them in per_class.csv")
        model, classes = model[shown], [classes[number] for number in shown]
        baseline = None if baseline is None else baseline[shown]
    count = len(classes)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, float(np.clip(1.5 + 0.36 * count, 2.6, 16))), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(count)
        bars = [("model", BLUE, model)]
        if baseline is not None:
            bars.append(("baseline", GREY, baseline))
        height = 0.8 / len(bars)
        for index, (name, colour, values) in enumerate(bars):
            offset = (index - (len(bars) - 1) / 2) * height
            axes.barh(rows + offset, np.nan_to_num(values), height * 0.94, color=colour, label=name)
            for row, value in zip(rows, values, strict=True):
                text = f"{value:.2f}" if np.isfinite(value) else "not in the split"
                end = np.nan_to_num(value) + 0.008
                axes.text(end, row + offset, text, va="center", fontsize=7.5, color=MUTED)
        axes.set_yticks(rows, [shorten(name, 24) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.margins(y=0.02)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title(f"{readable(metric)} by class, test split")
        # Below the figure, not the axis: long names move the axis to the right, and the notes out of sight.
        figure.supxlabel("\n".join(fill(note, 84) for note in notes), color=MUTED, fontsize=8.5)
        if baseline is not None:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=2)
        return save(figure, path)


def _ends(values: Floats, each: int) -> tuple[NDArray[np.int64], str]:
    """Return the places of the lowest and of the highest values (K,), in rising order, and say in words which these are."""
    found = int(np.isfinite(values).sum())
    ranked = np.argsort(values, kind="stable")[:found]
    if found <= 2 * each:
        return ranked, f"the {found} in the split"
    return np.concatenate([ranked[:each], ranked[-each:]]), f"the {each} lowest and the {each} highest"


def readable(metric: str) -> str:
    """Return a metric's name as it is written in text."""
    names = {"mean_iou": "mean IoU", "iou": "IoU", "macro_f1": "macro F1", "f1": "F1", "dice": "Dice"}
    names |= {"mse": "MSE", "mae": "MAE"}
    return names.get(metric, metric.replace("_", " "))


def name_ticks(axes: Axes, classes: Sequence[str]) -> None:
    """Write class names on both axes of a matrix, every so many of them where there are too many to read."""
    step = -(-len(classes) // MOST_NAMED_CLASSES)
    ticks = list(range(0, len(classes), step))
    names = [shorten(classes[tick], 18) for tick in ticks]
    upright = max(len(name) for name in names) <= 2
    axes.set_yticks(ticks, names)
    axes.set_xticks(ticks, names)
    if not upright:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
    axes.tick_params(length=0)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG or SVG, without the version and date that would make equal figures differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_fonts():
        figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None})
    return path


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Say nothing of letters that no font has, which are drawn as boxes, and of fonts without a bold face."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        logger.setLevel(level)


def _has_peak(losses: Sequence[float]) -> bool:
    """Return whether some losses are so large that all others would be one line at the bottom."""
    finite = np.array([loss for loss in losses if np.isfinite(loss)])
    return bool(len(finite) and finite.min() > 0 and finite.max() > PEAK * np.median(finite))


def _mark_best(axes: Axes, epochs: Sequence[int], values: Sequence[float], primary: str) -> None:
    # An epoch without a finite score is never the best one; nor is it where training looks for it.
    best = int(np.argmax([merit(primary, value) if np.isfinite(value) else -np.inf for value in values]))
    axes.axvline(epochs[best], color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    axes.plot(epochs[best], values[best], "o", color=BLUE, markersize=7, markeredgecolor="white", zorder=3)
    # In the corner that a curve leaves free which rises, or falls; where one does neither, the text hides it.
    falls = primary in LOWER_IS_BETTER
    axes.text(
        0.98,
        0.97 if falls else 0.03,
        f"best: {_score(values[best])}, epoch {epochs[best]}",
        transform=axes.transAxes,
        ha="right",
        va="top" if falls else "bottom",
        color=BLUE,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        zorder=4,
    )


def _score(value: float) -> str:
    """Return a score with four decimals, or with three digits where that would be nothing."""
    return f"{value:.4f}" if not value or abs(value) >= 0.01 else f"{value:.3g}"


def _write_counts(axes: Axes, confusion: NDArray[np.int64], shares: Floats) -> None:
    for (row, column), value in np.ndenumerate(confusion):
        if value:
            colour = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, compact(int(value)), ha="center", va="center", color=colour, fontsize=8.5)


def compact(number: int) -> str:
    """Return a count in at most five characters: 987, 9.9k, 312k, 1.2M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size * (1 if unit == "M" else 10):
            return f"{number / size:.{1 if number < 10 * size else 0}f}{unit}"
    return str(number)
