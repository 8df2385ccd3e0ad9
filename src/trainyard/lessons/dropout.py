"""Over-fitting, and dropout against it (Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.recipe import Recipe
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

CLAIM = (
    "A network that can learn its few samples by heart does: its training loss goes to 0, and from some epoch on the loss "
    "on new samples rises. Dropout, which lets every step train another random half of the units, makes that loss rise "
    "less."
)
CHANGE = "--set data.max_per_library=1500: up to four times the texts; look at when the loss on new ones begins to rise."
SHARES = (0.0, 0.5)
"""Of the embedded tokens, and of what the head sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By epoch, for each of SHARES."""

    samples: int
    train: tuple[tuple[float, ...], ...]
    """Loss of the training's own batches; with dropout, of what is left of the network in each."""
    val: tuple[tuple[float, ...], ...]
    """Loss on new samples."""
    accuracy: tuple[tuple[float, ...], ...]
    """On new samples."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train without and with dropout, as stage `train` does it."""
    base = recipes["texts"]
    data = packed(base, root)
    histories = []
    for share in SHARES:
        recipe = varied(varied(base, "model.dropout", share), "model.embedding_dropout", share)
        histories.append(_fit(recipe, data.folder, root / ".trainyard" / "lessons" / "dropout" / f"{share:g}"))
    columns = ("train/loss", "val/loss", "val/accuracy")
    train, val, accuracy = (tuple(tuple(row[name] for row in rows) for rows in histories) for name in columns)
    return Finding(samples=len(data.train), train=train, val=val, accuracy=accuracy)


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {}
    for index, share in enumerate(SHARES):
        val = finding.val[index]
        rows[f"dropout {share:g}"] = (finding.train[index][-1], min(val), val[-1], finding.accuracy[index][-1])
    return Table(headers=("training loss", "lowest validation loss", "last validation loss", "last accuracy"), rows=rows)


def holds(finding: Finding) -> bool:
    """Without dropout, training loss falls to nothing while the other one rises by a third; with it, it ends lower."""
    without, with_dropout = table(finding).rows.values()
    return without[0] < 0.1 and without[2] > 1.33 * without[1] and with_dropout[2] < 0.9 * without[2]


def draw(finding: Finding, path: Path) -> Path:
    """Draw losses and accuracy by epoch."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 3.7), layout="constrained")
        *losses, accuracy = figure.subplots(1, 3)
        top = 1.1 * max(max(values) for values in (*finding.val, *finding.train))
        for index, (share, colour) in enumerate(zip(SHARES, (ORANGE, BLUE), strict=True)):
            axes, epochs = losses[index], range(1, len(finding.val[index]) + 1)
            axes.plot(epochs, finding.train[index], color=GREY, linewidth=1.8, label="training samples")
            axes.plot(epochs, finding.val[index], color=colour, linewidth=1.8, label="new samples")
            axes.set_ylim(0, top)
            axes.set_title(f"Loss, dropout {share:g}")
            axes.legend(loc="upper left")
            accuracy.plot(epochs, finding.accuracy[index], color=colour, linewidth=1.8, label=f"dropout {share:g}")
        accuracy.set_title("Accuracy on new samples")
        accuracy.legend(loc="lower right")
        for axes in (*losses, accuracy):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
        return save(figure, path)


def _fit(recipe: Recipe, data_dir: Path, scratch: Path) -> list[dict[str, float]]:
    """Train from the beginning, whatever an earlier run of the lesson left."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return fit(FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint=recipe.name)).history
