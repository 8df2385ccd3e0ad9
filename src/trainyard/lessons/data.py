"""Deep against classical learning as data grow (Cortes et al. 1993; Hestness et al. 2017, arXiv:1712.00409)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from trainyard.data.packed import Split
from trainyard.evaluation.baseline import run_baseline
from trainyard.evaluation.figures import BLUE, MUTED, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import build, score, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.studies.subset import chosen_rows, rows_of

CLAIM = (
    "Errors fall with the number of samples as a power of it. A classical model, which can draw little, has soon learned "
    "what it can; a deep network goes on, and its lead grows. (That the classical model is ahead while samples are few is "
    "often said, too, and is not what is found here.)"
)
CHANGE = "--set train.augment.shift=1: images moved by a pixel stand for more samples, and the network needs fewer."
FRACTIONS = (0.02, 0.05, 0.15, 0.4, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By share of the training samples."""

    samples: tuple[int, ...]
    network: tuple[float, ...]
    """Error on the test split."""
    classical: tuple[float, ...]
    """Error of logistic regression on the pixels."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train both on growing shares, each part of the next; the network takes about as many steps on each."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    samples, network_errors, classical_errors = [], [], []
    for fraction in FRACTIONS:
        part = Split(data.train.kind, "train", rows_of(data.train, chosen_rows(data.train, fraction, recipe.train.seed)))
        longer = varied(recipe, "train.epochs", round(recipe.train.epochs / fraction))
        network = build(longer, data.card)
        train_whole(network, longer, part)
        baseline = run_baseline(part, data.test, len(data.card.classes), recipe.train.seed).predictions
        samples.append(len(part))
        network_errors.append(1 - score(network, recipe, [whole(data.test)]).accuracy)
        classical_errors.append(float((baseline.classes != data.test.arrays["labels"]).mean()))
    return Finding(samples=tuple(samples), network=tuple(network_errors), classical=tuple(classical_errors))


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    columns = zip(finding.samples, finding.network, finding.classical, strict=True)
    rows = {f"{samples:,} samples": (network, classical) for samples, network, classical in columns}
    return Table(headers=("error of the network", "error of logistic regression"), rows=rows)


def holds(finding: Finding) -> bool:
    """Both errors fall to less than half; at the end the network is ahead, and by a larger share than at the beginning."""
    falls = all(errors[-1] < 0.5 * errors[0] for errors in (finding.network, finding.classical))
    first, last = (finding.network[place] / max(finding.classical[place], 1e-3) for place in (0, -1))
    return falls and last < 1 and last < first


def draw(finding: Finding, path: Path) -> Path:
    """Draw both errors by samples."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(finding.samples, finding.network, "o-", color=BLUE, linewidth=1.8, label="CNN")
        axes.plot(finding.samples, finding.classical, "s--", color=MUTED, linewidth=1.8, label="logistic regression")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(finding.samples, [f"{samples:,}" for samples in finding.samples])
        axes.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5], ["1 %", "2 %", "5 %", "10 %", "20 %", "50 %"])
        axes.minorticks_off()
        axes.set_xlabel("training samples")
        axes.set_title("Test error as data grow")
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        return save(figure, path)
