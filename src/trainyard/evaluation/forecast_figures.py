"""Figures of forecasts: some windows of the test split, and how the error grows with the step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.evaluation.figures import BLUE, GREY, INK, MUTED, ORANGE, STYLE, save
from trainyard.evaluation.forecasts import Errors, Forecast
from trainyard.evaluation.intervals import Intervals
from trainyard.evaluation.lettering import fill, shorten

COLUMNS = 3
"""Windows in a row."""
SHOWN_CONTEXT, LEAST_CONTEXT = 3, 24
"""Horizons of context that are drawn before a forecast, and steps of it at least."""
FEW = 3
"""Steps below which each is a point: a line through one of them is nothing."""
BASELINE_LINES = (((0, (1, 1)), "s"), ((0, (4, 2)), "^"), ((0, (6, 1, 1, 1)), "D"))
"""Line and point of each baseline."""


def forecast_samples(
    split: Split,
    model: Forecast,
    baseline: Forecast | None,
    intervals: Intervals | None,
    targets: Sequence[str],
    shown: int,
    path: Path,
) -> Path:
    """Draw windows spread evenly over the test split, one target each in turn, in the target's own unit."""
    chosen = np.unique(np.linspace(0, len(split) - 1, min(shown, len(split))).astype(np.int64))
    batch = gather(split, chosen)
    context, truth = batch.inputs[0].numpy(), batch.targets.numpy()
    length, horizon = context.shape[1], truth.shape[1]
    begin = max(0, length - max(SHOWN_CONTEXT * horizon, LEAST_CONTEXT))
    marker = "o" if horizon < FEW else ""
    lines = [("forecast", BLUE, model(context))]
    if baseline is not None:
        lines.append(("baseline", ORANGE, baseline(context)))
    rows = -(-len(chosen) // COLUMNS)
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 2.3 * rows + 0.7), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid[len(chosen) :]:
            axes.axis("off")
        for position, (axes, index) in enumerate(zip(grid, chosen, strict=False)):
            target = position % len(targets)
            mean, std = (float(split.arrays[name][target]) for name in ("mean", "std"))
            seen = np.concatenate([context[position, begin:, target], truth[position, :, target]])
            if intervals is not None:
                low, high = (lines[0][2][position] + sign * intervals.half for sign in (-1, 1))
                band = [values[:, target] * std + mean for values in (low, high)]
                name = f"interval for {intervals.share:.0%}"
                # From half a step before to half a step after, so that a single step has an area, too.
                steps = np.concatenate([[-0.5], np.arange(horizon), [horizon - 0.5]])
                edges = [np.pad(values, 1, mode="edge") for values in band]
                axes.fill_between(steps, *edges, color=BLUE, alpha=0.18, linewidth=0, label=name)
            axes.plot(np.arange(begin - length, horizon), seen * std + mean, INK, linewidth=1.2, label="truth")
            for name, colour, values in reversed(lines):
                forecast = values[position, :, target] * std + mean
                axes.plot(np.arange(horizon), forecast, colour, marker=marker, markersize=5, linewidth=1.6, label=name)
            axes.axvline(-0.5, color=GREY, linewidth=0.8)
            axes.set_title(f"{shorten(targets[target], 24)}, window {index:,}", fontsize=9)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        figure.suptitle("Forecasts of the test split, by steps after the context", x=0.01, ha="left", fontweight="bold")
        return save(figure, path)


def error_by_step(model: Errors, baselines: dict[str, Errors], description: str, path: Path) -> Path:
    """Draw MSE and MAE of model and baselines over the steps of the horizon."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        steps = np.arange(1, len(model.squared_by_step) + 1)
        few = len(steps) < FEW
        for axes, title, field in zip(
            figure.subplots(1, 2), ("MSE", "MAE"), ("squared_by_step", "absolute_by_step"), strict=True
        ):
            for (name, errors), (style, marker) in zip(baselines.items(), BASELINE_LINES, strict=False):
                values = getattr(errors, field).mean(axis=1)
                label = name.replace("_", " ")
                axes.plot(steps, values, color=MUTED, linestyle=style, marker=marker if few else "", label=label)
            values = getattr(model, field).mean(axis=1)
            axes.plot(steps, values, BLUE, marker="o" if few else "", linewidth=2, label="model")
            axes.set_title(f"{title} by step of the horizon")
            axes.set_xlabel("step")
            axes.set_ylim(bottom=0)
            axes.grid(axis="y")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if few:
                axes.set_xticks(steps)
                axes.set_xlim(0.5, len(steps) + 0.5)
        # Above both charts: wherever it stands in one of them, some line runs through it.
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=len(baselines) + 1)
        if description:
            figure.supxlabel(fill(f"baseline: {description}", 120), fontsize=8.5, color=MUTED)
        return save(figure, path)
