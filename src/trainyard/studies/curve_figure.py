"""The chart of a learning curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from trainyard.evaluation.figures import BLUE, MUTED, STYLE, readable, save
from trainyard.tasks.primary import merit

if TYPE_CHECKING:
    from trainyard.studies.learning_curve import Curve


def draw_curve(curve: Curve, path: Path) -> Path:
    """Draw the metric of network and baseline over the number of training samples, with intervals; PNG or SVG by the name."""
    # Equal curves are equal files: SVG's names of parts are drawn by chance otherwise.
    with rc_context({**STYLE, "svg.hashsalt": "trainyard"}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        samples = [point.samples for point in curve.points]
        for name, colour, style in (("network", BLUE, "o-"), ("baseline", MUTED, "s--")):
            scores = [getattr(point, name) for point in curve.points]
            values = [score.value for score in scores]
            below = [max(0.0, score.value - score.low) for score in scores]
            above = [max(0.0, score.high - score.value) for score in scores]
            axes.errorbar(samples, values, [below, above], fmt=style, color=colour, capsize=3, linewidth=1.8, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(samples))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{point.samples:,}\n{point.fraction:.0%}" for point in curve.points])
        axes.set_xlabel("training samples")
        axes.grid(axis="y")
        lower = " (lower is better)" if merit(curve.metric, 1.0) < 0 else ""
        axes.set_title(f"{curve.recipe}: test {readable(curve.metric)}{lower} by training samples, 95 % intervals")
        axes.legend(loc="best")
        return save(figure, path)
