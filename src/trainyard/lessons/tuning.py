"""Hyperparameters found by sweep (Bergstra and Bengio 2012; Bergstra et al. 2011; Dodge et al. 2019, arXiv:1909.03004)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import median

from matplotlib import rc_context
from matplotlib.figure import Figure

from trainyard.evaluation.figures import BLUE, GREY, MUTED, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, recipe_file, varied
from trainyard.lessons.loop import build, score, train_whole, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.recipe import Recipe, read_sweep
from trainyard.studies.searcher import next_values
from trainyard.studies.sweep_config import Range, SweepConfig
from trainyard.studies.sweep_report import importance
from trainyard.studies.trials import State, Swept, Trial

CLAIM = (
    "Few keys matter, and the learning rate matters most. A grid spends its trials on combinations, and so tries few values "
    "of each key; as many trials drawn by chance try a new value of every key each time, and most often find a better one "
    "of the key that matters. A search that learns from its trials tries good values more often than chance does."
)
CHANGE = "--set train.optimizer=adam: another optimizer, another best rate; which of the grid's three is nearest now?"
SEARCHERS = ("grid", "random", "tpe")
POINTS = 3
"""Values of each key in the grid, in the middle of equal parts of its range."""
HIGHEST_SHOWN = 3.6
"""Loss, in the figure."""
LARGEST = 10.0
"""Stands for a loss that is larger; one that is no number makes a trial fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Trials by SEARCHERS, in the order in which they were made."""

    keys: tuple[str, ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]
    """By searcher, trial and key."""
    losses: tuple[tuple[float, ...], ...]
    """On the validation split."""
    importance: tuple[float, ...]
    """By key: share of what tells good trials from bad ones, of those drawn by chance."""

    @property
    def best(self) -> tuple[float, ...]:
        """Lowest loss of each searcher."""
        return tuple(min(losses) for losses in self.losses)

    @property
    def later(self) -> tuple[float, ...]:
        """Median loss of the later half of each searcher's trials."""
        return tuple(median(losses[len(losses) // 2 :]) for losses in self.losses)


def measure(recipes: Recipes, root: Path) -> Finding:
    """Search three times with as many trials, as `trainyard sweep` chooses them."""
    base = recipes["digits"]
    data = packed(base, root)
    config = replace(read_sweep(recipe_file("tuning"), base.name).config, seed=base.train.seed)
    configs = (grid_of(config), replace(config, searcher="random"), replace(config, searcher="tpe"))
    runs = [_search(base, chosen, data) for chosen in configs]
    keys = tuple(config.over)
    weights = importance(_swept(base, runs[SEARCHERS.index("random")]), config)
    return Finding(
        keys=keys,
        values=tuple(tuple(tuple(float(trial.values[key]) for key in keys) for trial in trials) for trials in runs),
        losses=tuple(tuple(_loss(trial) for trial in trials) for trials in runs),
        importance=tuple(weights[key] for key in keys),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows: dict[str, tuple[float, ...]] = {}
    for index, name in enumerate(SEARCHERS):
        rates = {values[0] for values in finding.values[index]}
        rows[name] = (float(len(rates)), finding.best[index], finding.later[index])
    for key, weight in zip(finding.keys, finding.importance, strict=True):
        rows[f"importance of {key}"] = (weight,)
    return Table(headers=("learning rates tried", "lowest loss", "median loss of later half"), rows=rows)


def holds(finding: Finding) -> bool:
    """The learning rate outweighs all else; chance is no worse than the grid; tpe is better, and tries better values."""
    grid, chance, learned = finding.best
    return (
        finding.importance[0] > 0.5
        and chance < 1.02 * grid
        and learned < 0.95 * grid
        and finding.later[SEARCHERS.index("tpe")] < 0.95 * finding.later[SEARCHERS.index("random")]
    )


def draw(finding: Finding, path: Path) -> Path:
    """Draw the loss over the key that matters and over one that does not, and the best so far."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.9), layout="constrained")
        rates, others, so_far = figure.subplots(1, 3)
        others.sharey(rates)
        for index, (name, colour, marker) in enumerate(zip(SEARCHERS, (ORANGE, GREY, BLUE), "so^", strict=True)):
            losses = [min(loss, HIGHEST_SHOWN) for loss in finding.losses[index]]
            for axes, key in ((rates, 0), (others, 2)):
                places = [values[key] for values in finding.values[index]]
                axes.plot(places, losses, marker, color=colour, markersize=5, alpha=0.85, label=name)
            trials = range(1, len(losses) + 1)
            so_far.step(trials, list(accumulate(losses, min)), where="post", color=colour, linewidth=1.8, label=name)
        rates.set_xscale("log")
        for axes, key in ((rates, 0), (others, 2)):
            axes.set_title(f"It explains {finding.importance[key]:.0%}")
            axes.set_xlabel(finding.keys[key])
        rates.set_ylabel("validation loss of a trial")
        rates.set_ylim(0.9 * min(finding.best), HIGHEST_SHOWN)
        rates.axhline(math.log(10), color=GREY, linestyle=(0, (3, 3)), linewidth=1)
        rates.annotate("guessing", (1e-4, math.log(10)), va="bottom", color=MUTED)
        so_far.set_title("The best so far")
        so_far.set_xlabel("trials")
        so_far.set_ylim(0.9 * min(finding.best), HIGHEST_SHOWN)
        so_far.set_ylabel("lowest validation loss")
        so_far.legend(loc="upper right")
        for axes in (rates, others, so_far):
            axes.grid(axis="y")
        return save(figure, path)


def grid_of(config: SweepConfig) -> SweepConfig:
    """Return the sweep over all combinations of POINTS values of each key."""
    return replace(config, searcher="grid", over={key: Range(choice=_points(found)) for key, found in config.over.items()})


def _points(found: Range) -> tuple[float, ...]:
    low, high = found.ends
    shares = [(place + 0.5) / POINTS for place in range(POINTS)]
    if found.log is not None:
        return tuple(float(f"{low * (high / low) ** share:.4g}") for share in shares)
    return tuple(low + (high - low) * share for share in shares)


def _search(base: Recipe, config: SweepConfig, data: Packed) -> list[Trial]:
    """Make the trials of a sweep, one after the other in this process."""
    trials: list[Trial] = []
    while len(trials) < config.most:
        values = next_values(base, config, trials, lambda trial: [-_loss(trial)])
        if values is None:
            break
        trials.append(_trial(base, values, data, len(trials)))
    return trials


def _trial(base: Recipe, values: dict[str, float], data: Packed, number: int) -> Trial:
    recipe = base
    for key, value in values.items():
        recipe = varied(recipe, key, value)
    network = build(recipe, data.card)
    train_whole(network, recipe, data.train)
    loss = score(network, recipe, [whole(data.val)]).loss
    state: State = "finished" if math.isfinite(loss) else "failed"
    return Trial(number=number, values=values, state=state, history=({"val/loss": loss},))


def _loss(trial: Trial) -> float:
    loss = trial.history[-1]["val/loss"]
    return min(loss, LARGEST) if math.isfinite(loss) else LARGEST


def _swept(base: Recipe, trials: Sequence[Trial]) -> Swept:
    scores = {trial.number: _loss(trial) for trial in trials}
    best = min(scores, key=lambda number: scores[number])
    return Swept(
        recipe=base.name,
        metric="loss",
        trials=tuple(trials),
        best=best,
        scores=scores,
        values=trials[best].values,
        folder=Path(),
    )
