"""The charts of a sweep: what each value did, and how much each key mattered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from trainyard.evaluation.figures import BLUE, GREY, INK, MUTED, ORANGE, STYLE, readable, save
from trainyard.studies.sweep_config import Range, SweepConfig
from trainyard.tasks.primary import merit

if TYPE_CHECKING:
    from trainyard.studies.trials import Swept, Trial

COLUMNS = 3


def draw_slices(swept: Swept, config: SweepConfig, path: Path) -> Path:
    """Draw the metric of all trials over each key's values."""
    keys = list(config.over)
    # Four stand as a square.
    columns = 2 if len(keys) == 4 else min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    scored = [trial for trial in swept.trials if trial.number in swept.scores]
    with rc_context(STYLE):
        figure = Figure(figsize=(max(6.4, 3.5 * columns), 3.1 * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        least = _least(swept, scored)
        for key, axes in zip(keys, panels, strict=False):
            _slice(axes, swept, scored, key, config.over[key], least)
        for axes in panels[len(keys) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel(f"validation {readable(swept.metric)}")
        lower = ", lower is better" if merit(swept.metric, 1.0) < 0 else ""
        figure.suptitle(
            f"{swept.recipe}: {len(swept.trials)} trials, validation {readable(swept.metric)}{lower}",
            x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK,
        )  # fmt: skip
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
        return save(figure, path)


def draw_importance(swept: Swept, weights: dict[str, float], path: Path) -> Path:
    """Draw how much of the differences between trials each key explains."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.3 + 0.42 * len(weights)), layout="constrained")
        axes = figure.subplots()
        names, values = list(weights)[::-1], list(weights.values())[::-1]
        bars = axes.barh(names, values, color=BLUE, height=0.62)
        axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4, color=INK)
        axes.set_xlim(0, max([*values, 0.01]) * 1.14)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        text = f"{swept.recipe}: what explains the differences between {len(swept.scores)} trials (PED-ANOVA)"
        figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        return save(figure, path)


def _slice(axes: Axes, swept: Swept, scored: list[Trial], key: str, found: Range, least: float) -> None:
    merits = {trial.number: merit(swept.metric, swept.scores[trial.number]) for trial in scored}
    off = [trial for trial in scored if merits[trial.number] < least]
    others = [trial for trial in scored if trial.number != swept.best and trial not in off]
    ended = [trial for trial in others if trial.state == "finished"]
    early = [trial for trial in others if trial.state != "finished"]
    best = [trial for trial in scored if trial.number == swept.best]
    worse = "v" if merit(swept.metric, 1.0) > 0 else "^"
    groups: tuple[tuple[str, list[Trial], dict[str, Any]], ...] = (
        ("ended early", early, {"facecolors": "white", "edgecolors": GREY, "s": 30}),
        ("worse than is shown", off, {"color": GREY, "s": 30, "marker": worse}),
        ("finished", ended, {"color": BLUE, "alpha": 0.8, "s": 36, "linewidths": 0}),
        ("best", best, {"color": ORANGE, "s": 90, "marker": "*", "zorder": 3}),
    )
    for label, trials, style in groups:
        places = [_place(found, trial.values[key], trial.number) for trial in trials]
        if trials:
            values = [merit(swept.metric, max(least, merits[trial.number])) for trial in trials]
            axes.scatter(places, values, label=label, **style)
    if found.choice is not None:
        axes.set_xticks(range(len(found.choice)), [_label(value) for value in found.choice])
        axes.set_xlim(-0.6, len(found.choice) - 0.4)
    elif found.log is not None:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif found.integer is not None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(key, color=MUTED)
    axes.grid(axis="y")


def _least(swept: Swept, scored: list[Trial]) -> float:
    """Return the least merit that is shown: of trials that were far off, all others would be drawn as one line."""
    merits = sorted(merit(swept.metric, swept.scores[trial.number]) for trial in scored)
    top, lower = merits[-1], merits[len(merits) // 4]
    return max(merits[0], lower - (top - lower))


def _place(found: Range, value: Any, number: int) -> float:
    """Return where on the axis a trial stands: of a choice beside the others that chose the same."""
    if found.choice is None:
        return float(value)
    return [_label(other) for other in found.choice].index(_label(value)) + 0.3 * (number * 0.618 % 1 - 0.5)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
