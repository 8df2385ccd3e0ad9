"""Batch, stochastic and mini-batch gradient descent (Robbins and Monro 1951; Bottou, Curtis and Nocedal 2018)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from trainyard.data.batches import Batch, gather
from trainyard.evaluation.figures import BLUE, GREEN, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import batch_loss, build, gradient, score, train_by_epoch, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.recipe import Recipe

CLAIM = (
    "The gradient of B random samples strays from that of all by 1 / sqrt(B). Steps of one sample are noisy and many: a "
    "pass over the data teaches most with them, and least as one step of all samples. But a processor computes many samples "
    "at once for little more than one, so that mini-batches learn more in less time."
)
CHANGE = "--set train.learning_rate=0.3: single samples, whose noise nothing averages out, do not settle as low."
SIZES = (1, 4, 16, 64, 256)
"""Samples in a gradient whose noise is measured."""
DRAWS = 24
"""Gradients of each size."""
KINDS: tuple[tuple[str, int | Literal["full"], int], ...] = (
    ("single samples", 1, 1),
    ("mini-batches of 32", 32, 10),
    ("the whole split", "full", 30),
)
"""Name, batch_size, and how often the recipe's epochs fit in: all take about as long, or less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The noise of gradients by SIZES, and trainings by KINDS."""

    noise: tuple[float, ...]
    """Distance from the gradient of all samples, relative to its length."""
    exponent: float
    """Of the batch size in the noise, what a batch of all samples leaves to chance taken into account: -1/2 in theory."""
    epochs: int
    """Of the recipe."""
    seconds: tuple[tuple[float, ...], ...]
    """Of the processor, at the end of each epoch."""
    losses: tuple[tuple[float, ...], ...]
    """On the validation split at these moments."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Measure the noise at the first weights, then train with each kind of batch."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    noise = _noise(recipe, data)
    runs = []
    for _, size, times in KINDS:
        longer = varied(recipe, "train.epochs", times * recipe.train.epochs)
        runs.append(_run(varied(longer, "train.batch_size", size), data))
    # Drawn without replacement: the more of all samples a batch holds, the less is left to chance.
    count = len(data.train)
    left = np.sqrt([(count - size) / (count - 1) for size in SIZES])
    return Finding(
        noise=noise,
        exponent=float(np.polyfit(np.log(SIZES), np.log(np.array(noise) / left), 1)[0]),
        epochs=recipe.train.epochs,
        seconds=tuple(run[0] for run in runs),
        losses=tuple(run[1] for run in runs),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    early = finding.epochs - 1
    rows: dict[str, tuple[float, ...]] = {}
    for index, (name, _, _) in enumerate(KINDS):
        losses, seconds = finding.losses[index], finding.seconds[index]
        rows[name] = (losses[early], seconds[early], losses[-1], seconds[-1])
    after = f"after {finding.epochs} epochs"
    headers = (f"validation loss {after}", f"processor seconds {after}", "loss at the end", "seconds at the end")
    return Table(headers=headers, rows={**rows, "exponent of the noise": (finding.exponent,)})


def holds(finding: Finding) -> bool:
    """Noise falls as it should; a pass teaches the more the smaller the batch; mini-batches learn more in less time."""
    single, mini, full = (table(finding).rows[name] for name, _, _ in KINDS)
    return -0.6 < finding.exponent < -0.4 and single[0] < mini[0] < full[0] and mini[2] < single[2] and mini[3] < single[3]


def draw(finding: Finding, path: Path) -> Path:
    """Draw the noise by size, and the loss by epochs and by seconds."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.7), layout="constrained")
        noise, epochs, seconds = figure.subplots(1, 3)
        noise.plot(SIZES, finding.noise[0] * np.array(SIZES) ** -0.5, "--", color=GREY, label="1 / sqrt(B)")
        noise.plot(SIZES, finding.noise, "o-", color=BLUE, label="measured")
        noise.set_xscale("log")
        noise.set_yscale("log")
        noise.set_xticks(SIZES, [str(size) for size in SIZES])
        noise.minorticks_off()
        noise.set_title("How far a gradient strays")
        noise.set_xlabel("samples in the batch, B")
        noise.legend(loc="lower left")
        for (name, _, _), colour, used, losses in zip(
            KINDS, (ORANGE, BLUE, GREEN), finding.seconds, finding.losses, strict=True
        ):
            style = {"color": colour, "marker": "o", "markersize": 3, "label": name}
            epochs.plot(np.arange(1, len(losses) + 1), losses, **style)
            seconds.plot(used, losses, **style)
        for axes, title, unit in ((epochs, "By passes over the data", "epochs"), (seconds, "By time", "processor seconds")):
            axes.set_xscale("log")
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.set_ylim(0, None)
            axes.grid(axis="y")
        epochs.set_ylabel("validation loss")
        seconds.legend(loc="lower left")
        return save(figure, path)


def _noise(recipe: Recipe, data: Packed) -> tuple[float, ...]:
    """Return the mean distance of gradients of some samples from that of all, relative to its length, for each of SIZES."""
    network = build(recipe, data.card)
    rng = np.random.default_rng(recipe.train.seed)

    def slope(batch: Batch) -> Tensor:
        network.zero_grad()
        batch_loss(network, recipe, batch).backward()  # type: ignore[no-untyped-call]
        return gradient(network).clone()

    exact = slope(whole(data.train))
    found = []
    for size in SIZES:
        drawn = [rng.choice(len(data.train), size, replace=False) for _ in range(DRAWS)]
        squares = [float((slope(gather(data.train, rows, 1 / size)) - exact).square().sum()) for rows in drawn]
        found.append(float(np.sqrt(np.mean(squares)) / float(exact.norm())))
    return tuple(found)


def _run(recipe: Recipe, data: Packed) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Train; return the processor's seconds at the end of each epoch, and the validation loss then, which takes none."""
    network = build(recipe, data.card)
    seconds: list[float] = []
    losses: list[float] = []
    used, began = 0.0, time.thread_time()
    for _ in train_by_epoch(network, recipe, data.train):
        used += time.thread_time() - began
        seconds.append(used)
        losses.append(score(network, recipe, [whole(data.val)]).loss)
        began = time.thread_time()
    return tuple(seconds), tuple(losses)
