"""The reliability diagram: how often predictions of each confidence are right, and how many of them there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainyard.evaluation.calibration import BINS, Reliability
from trainyard.evaluation.figures import BLUE, GREY, MUTED, STYLE, save

LIGHT, WARM = "#9db9ea", "#f2bd8f"


def reliability_diagram(
    before: Reliability, after: Reliability | None, temperature: float | None, unit: str, path: Path
) -> Path:
    """Draw accuracy over confidence as it is and, where a temperature was fitted, as it is then."""
    shown = [("As trained", before)]
    if after is not None:
        shown.append((f"At temperature {temperature:.2f}", after))
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(shown), 4.8), layout="constrained")
        grid = figure.subplots(2, len(shown), squeeze=False, height_ratios=(4, 1), sharex=True)
        for number, (title, found) in enumerate(shown):
            _accuracy(grid[0, number], found, title)
            _counts(grid[1, number], found, unit)
        grid[0, 0].set_ylabel("share that is right")
        return save(figure, path)


def _accuracy(axes: Axes, found: Reliability, title: str) -> None:
    filled = found.count > 0
    count = np.maximum(found.count, 1)
    accuracy, confidence = found.right / count, found.confidence / count
    edges = (np.arange(BINS) / BINS)[filled]
    accuracy, confidence = accuracy[filled], confidence[filled]
    lower = np.minimum(accuracy, confidence)
    bars: dict[str, Any] = {"width": 0.96 / BINS, "align": "edge"}
    axes.bar(edges, lower, color=BLUE, label="right", **bars)
    axes.bar(edges, np.maximum(accuracy - confidence, 0), bottom=lower, color=LIGHT, label="right, and not sure of it", **bars)
    axes.bar(edges, np.maximum(confidence - accuracy, 0), bottom=lower, color=WARM, label="sure of it, and wrong", **bars)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(axis="y")
    axes.set_title(f"{title}: calibration error {found.error:.3f}", fontsize=10)
    axes.legend(loc="upper left", fontsize=8.5)


def _counts(axes: Axes, found: Reliability, unit: str) -> None:
    share = found.count / found.count.sum()
    axes.bar(np.arange(BINS) / BINS, share, 0.96 / BINS, align="edge", color=GREY)
    axes.set_xlabel("probability of the predicted class")
    axes.set_ylabel(f"share of {unit}", color=MUTED, fontsize=8.5)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1], ["0", "1"])
