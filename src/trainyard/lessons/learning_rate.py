"""The learning rate and its schedule (LeCun, Bottou, Orr and Müller 1998; Loshchilov and Hutter 2016, arXiv:1608.03983)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from trainyard.data.batches import gather
from trainyard.evaluation.figures import BLUE, GREEN, GREY, MUTED, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import batch_loss, build, score, train_by_epoch, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.recipe import Recipe
from trainyard.tasks.optimization import learning_rate_factor
from trainyard.tasks.train_config import TrainConfig

CLAIM = (
    "Of so many steps, those of too small a learning rate get nowhere, and those of too large a one go nowhere: the loss "
    "over the rate has the shape of a U. A rate that falls towards the end goes as far as a large one, and settles as a "
    "small one does."
)
CHANGE = "--set model.activation=relu: a unit that a large step drove far off is dead; where does the right arm begin now?"
RATES = (1e-4, 1e-3, 0.01, 0.1, 0.3, 1.0, 10.0)
FALLING = (0.3, 1.0)
"""Rates of the schedules that fall: about the best constant one, and a larger one."""
SCHEDULES: tuple[str, ...] = get_args(get_type_hints(TrainConfig)["schedule"])
WARMUP = 0.25
"""Share of the steps over which one_cycle rises."""
LARGE = 1.0
"""The rate that the schedules are compared at: too large to stay constant."""
LARGEST = 100.0
"""Stands for a loss that is larger, or no number any more."""
GUESSING = math.log(10)
ROUNDS = 15
"""Of the power iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The loss on the training split after training, by schedule and rate."""

    losses: tuple[tuple[float, ...], ...]
    """By SCHEDULES, then by RATES for constant ones, by FALLING for others."""
    curves: tuple[tuple[float, ...], ...]
    """By SCHEDULES, then by epoch, at LARGE."""
    factors: tuple[tuple[float, ...], ...]
    """By SCHEDULES, then by percent of the steps: share of the rate in use."""
    bound: float
    """2 / (largest curvature of the loss at the first weights): above it, steps on a parabola of that curvature grow."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train with each constant rate, and with the larger ones under each schedule that falls."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    losses, curves, factors = [], [], []
    for schedule in SCHEDULES:
        chosen = varied(recipe, "train.schedule", schedule)
        if schedule == "one_cycle":
            chosen = varied(chosen, "train.warmup_fraction", WARMUP)
        rates = RATES if schedule == "constant" else FALLING
        trained = [_curve(varied(chosen, "train.learning_rate", rate), data) for rate in rates]
        losses.append(tuple(curve[-1] for curve in trained))
        curves.append(trained[rates.index(LARGE)])
        factors.append(tuple(learning_rate_factor(chosen.train, step, 100) for step in range(100)))
    return Finding(
        losses=tuple(losses),
        curves=tuple(curves),
        factors=tuple(factors),
        bound=2 / _curvature(recipe, data),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    constant, *falling = finding.losses
    rows: dict[str, tuple[float, ...]] = {}
    for place, rate in enumerate(RATES):
        others = [losses[FALLING.index(rate)] for losses in falling] if rate in FALLING else []
        rows[f"rate {rate:g}"] = (constant[place], *others)
    rows["the best rate of each"] = tuple(min(losses) for losses in finding.losses)
    return Table(headers=SCHEDULES, rows={**rows, "2 / curvature at the beginning": (finding.bound,)})


def holds(finding: Finding) -> bool:
    """The loss is a U over the constant rates; at a large one schedules that fall end far lower, and no worse than the best."""
    constant, *falling = finding.losses
    slow, lost, best = constant[0], constant[-1], min(constant)
    shaped = slow > 0.9 * GUESSING and lost > 0.9 * GUESSING and best < 0.35 * GUESSING
    large = constant[RATES.index(LARGE)]
    settled = all(losses[FALLING.index(LARGE)] < 0.9 * large for losses in falling)
    return shaped and settled and min(map(min, falling)) < 1.1 * best


def draw(finding: Finding, path: Path) -> Path:
    """Draw the loss by rate, the schedules, and the loss by epoch under each."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.9), layout="constrained")
        rates, factors, curves = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
        rates.axhline(GUESSING, color=GREY, linestyle=(0, (3, 3)), linewidth=1)
        rates.annotate("guessing", (RATES[0], GUESSING), va="bottom", color=MUTED)
        rates.axvline(finding.bound, color=GREY, linewidth=1)
        rates.annotate("2 / curvature  ", (finding.bound, 0.06), color=MUTED, ha="right")
        for index, (name, colour) in enumerate(zip(SCHEDULES, (ORANGE, BLUE, GREEN), strict=True)):
            style = {"color": colour, "linewidth": 1.8, "label": name}
            rates.plot(RATES if not index else FALLING, np.minimum(finding.losses[index], 3), "o-", markersize=4, **style)
            factors.plot(finding.factors[index], **style)
            values = finding.curves[index]
            curves.plot(range(1, len(values) + 1), values, "o-", markersize=4, **style)
        rates.set_xscale("log")
        rates.set_ylim(0, 3.05)
        rates.set_title("Training loss at the end")
        rates.set_xlabel("learning rate")
        factors.set_title("Share of the rate in use")
        factors.set_xlabel("percent of all steps")
        factors.set_ylim(0, 1.25)
        factors.legend(loc="upper right", ncols=3, columnspacing=1.1, handlelength=1.2, fontsize=9)
        curves.set_ylim(0, None)
        curves.set_title(f"Training loss at rate {LARGE:g}")
        curves.set_xlabel("epoch")
        for axes in (rates, factors, curves):
            axes.grid(axis="y")
        return save(figure, path)


def _curve(recipe: Recipe, data: Packed) -> tuple[float, ...]:
    """Train; return the loss on the whole training split after each epoch."""
    network = build(recipe, data.card)
    losses = [score(network, recipe, [whole(data.train)]).loss for _ in train_by_epoch(network, recipe, data.train)]
    return tuple(min(loss, LARGEST) if math.isfinite(loss) else LARGEST for loss in losses)


def _curvature(recipe: Recipe, data: Packed) -> float:
    """Return the largest eigenvalue of the loss's second derivative at the first weights, by power iteration."""
    network = build(recipe, data.card)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    loss = batch_loss(network, recipe, gather(data.train, np.arange(256), 1 / 256))
    slope = _flat(torch.autograd.grad(loss, weights, create_graph=True))
    direction = torch.randn(len(slope))
    largest = 0.0
    for _ in range(ROUNDS):
        direction = direction / direction.norm()
        direction = _flat(torch.autograd.grad(slope @ direction, weights, retain_graph=True))
        largest = float(direction.norm())
    return largest


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
