"""Learning is a feedback loop: loss, backpropagation, update (Rumelhart, Hinton and Williams 1986)."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainyard.data.batches import Batch, gather
from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.loop import build, gradient, train_whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE

CLAIM = (
    "Backpropagation gives the slope of the loss for every weight: the one that is found by nudging the weight. A small "
    "step against it lowers the loss by the learning rate times the slope's squared length; repeated, that is learning."
)
CHANGE = "--set train.learning_rate=5: steps are too long for the slope to hold, and the loss no longer falls."
CHECKED = 60
"""Weights that are nudged, spread over all of them."""
NUDGE = 1e-5
IMAGES = 64
"""That the slope is measured on."""
RATES = tuple(float(rate) for rate in np.logspace(-3, 1.5, 19))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The gradient in two ways, what steps along it do, and what many of them do."""

    computed: tuple[float, ...]
    """Slopes by backpropagation."""
    nudged: tuple[float, ...]
    """The same by central differences."""
    error: float
    """Length of their difference relative to that of both."""
    promised: tuple[float, ...]
    """Change of the loss by a step, as the slope says, for each of RATES."""
    found: tuple[float, ...]
    """Change of the loss as it was."""
    uphill: float
    """Change of the loss by the smallest step the other way."""
    losses: tuple[float, ...]
    """Of each round of the loop."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Check the gradient, take single steps, then train."""
    recipe = recipes["loop"]
    data = packed(recipe, root)
    network = build(recipe, data.card).double()
    batch = gather(data.train, np.arange(IMAGES), 1 / IMAGES)
    before = _loss(network, batch)
    before.backward()  # type: ignore[no-untyped-call]
    slope = gradient(network)
    places = torch.linspace(0, len(slope) - 1, CHECKED).long()
    nudged = torch.stack([_slope_by_nudging(network, batch, int(place)) for place in places])
    computed, start = slope[places], float(before.detach())
    changes = [float(_moved(network, batch, -rate * slope)) - start for rate in RATES]
    return Finding(
        computed=tuple(computed.tolist()),
        nudged=tuple(nudged.tolist()),
        error=float((computed - nudged).norm() / (computed.norm() + nudged.norm())),
        promised=tuple(-rate * float(slope.square().sum()) for rate in RATES),
        found=tuple(changes),
        uphill=float(_moved(network, batch, RATES[0] * slope)) - start,
        losses=tuple(train_whole(build(recipe, data.card), recipe, data.train)),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    return Table(
        headers=("measured",),
        rows={
            "gradient against nudging, relative error": (finding.error,),
            f"change by a step of {RATES[0]:g}, promised": (finding.promised[0],),
            f"change by a step of {RATES[0]:g}, found": (finding.found[0],),
            "change by the step uphill": (finding.uphill,),
            f"change by a step of {RATES[-1]:.0f}, promised": (finding.promised[-1],),
            f"change by a step of {RATES[-1]:.0f}, found": (finding.found[-1],),
            "loss of the first batch": (finding.losses[0],),
            "loss of the last ten batches": (_end(finding),),
        },
    )


def holds(finding: Finding) -> bool:
    """The gradient is the slope, a small step does what it promises, and the loop lowers the loss to a half or less."""
    kept = finding.found[0] / finding.promised[0]
    return finding.error < 1e-3 and 0.9 < kept < 1.1 and finding.uphill > 0 and _end(finding) < 0.5 * math.log(10)


def draw(finding: Finding, path: Path) -> Path:
    """Draw both gradients, steps of all lengths, and the loss of the loop."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.7), layout="constrained")
        slopes, steps, losses = figure.subplots(1, 3)
        slopes.axline((0, 0), slope=1, color=GREY, linewidth=1)
        slopes.plot(finding.nudged, finding.computed, "o", color=BLUE, markersize=4)
        slopes.set_title("Slope of the loss, weight by weight")
        slopes.set_xlabel("by nudging the weight")
        slopes.set_ylabel("by backpropagation")
        lowest = max(1.3 * abs(min(finding.found)), 0.1)
        steps.axhline(0, color=GREY, linewidth=1)
        steps.plot(RATES, finding.promised, "--", color=ORANGE, label="promised by the slope")
        steps.plot(RATES, finding.found, "o-", color=BLUE, markersize=3, label="found")
        steps.set_xscale("log")
        steps.set_ylim(-lowest, lowest)
        steps.set_title("One step: change of the loss")
        steps.set_xlabel("learning rate")
        steps.legend(loc="upper left", fontsize=8.5)
        losses.plot(finding.losses, color=BLUE, linewidth=1)
        losses.axhline(math.log(10), color=GREY, linestyle=(0, (3, 3)), linewidth=1)
        losses.annotate("guessing: ln 10", (len(finding.losses), math.log(10)), ha="right", va="bottom", color=GREY)
        losses.set_ylim(0, 1.25 * max(math.log(10), min(finding.losses[0], 4)))
        losses.set_title("Many steps: the loop")
        losses.set_xlabel("step")
        losses.set_ylabel("loss of the batch")
        return save(figure, path)


def _end(finding: Finding) -> float:
    return float(np.mean(finding.losses[-10:]))


def _slope_by_nudging(network: nn.Module, batch: Batch, place: int) -> Tensor:
    """Return (L(w + e) - L(w - e)) / 2e for one weight w."""
    nudge = torch.zeros(sum(parameter.numel() for parameter in network.parameters()), dtype=torch.float64)
    nudge[place] = NUDGE
    above, below = (_moved(network, batch, sign * nudge) for sign in (1, -1))
    return (above - below) / (2 * NUDGE)


@torch.no_grad()
def _moved(network: nn.Module, batch: Batch, change: Tensor) -> Tensor:
    """Return the loss after all weights are moved by `change`; the network stays as it is."""
    other = deepcopy(network)
    weights = nn.utils.parameters_to_vector(other.parameters())
    nn.utils.vector_to_parameters(weights + change, other.parameters())
    return _loss(other, batch)


def _loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy in double precision: that of a training is in single, too coarse to see a nudge in."""
    return cross_entropy(network(*batch.inputs), batch.targets)
