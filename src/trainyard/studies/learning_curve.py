"""`trainyard learning-curve`: quality over the number of training samples, of the network and of the classical baseline.

A curve that still rises says that more data would help; where the two cross, that the network needs so many (Cortes 1993,
"Learning curves: asymptotic values and rate of convergence"; Hestness 2017, arXiv:1712.00409). All points are tested on the
same samples. A share of the samples is seen so much more often that all networks take about as many steps: they differ in
data alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.progress import say
from trainyard.recipe import Recipe
from trainyard.studies.children import Child, run_child
from trainyard.studies.parent import parent_run, prepared
from trainyard.studies.subset import subset
from trainyard.tasks.primary import PRIMARY
from trainyard.terminal import Rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Network and baseline, trained on a share of the samples."""

    fraction: float
    samples: int
    epochs: int
    network: Score
    baseline: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What came out."""

    recipe: str
    metric: str
    points: tuple[Point, ...]


def learning_curve(root: Path, name: str, fractions: Sequence[float], *, same_epochs: bool) -> Curve:
    """Train and evaluate a recipe on shares of its training split; write reports/<recipe>/learning_curve.json, .png and .svg.

    What was done before the command was stopped is not done again.

    Args:
        root: the project.
        name: of the recipe.
        fractions: of the training samples.
        same_epochs: see each share as often as the whole, which takes fewer steps.

    Raises:
        InputError: a share is too small, or the data were not prepared.
        TrainyardError: a stage failed.
    """
    recipe, data_dir = prepared(root, name)
    folder = root / ".trainyard" / "studies" / name / "learning-curve"
    metric = PRIMARY[recipe.kind]
    points = []
    with parent_run(
        root, recipe, "learning-curve", folder, {"trainyard.fractions": ", ".join(map(str, fractions))}
    ) as tracking:
        for fraction in sorted(set(fractions)):
            place = folder / f"fraction-{fraction:g}"
            card = subset(data_dir, place / "data", fraction, recipe.evaluate.seed)
            epochs = recipe.train.epochs if same_epochs else scaled_epochs(recipe, fraction)
            trained = f"{epochs} epoch{'' if epochs == 1 else 's'}"
            say(name, "learning-curve", f"{card.samples['train']:,} training samples ({fraction:.0%}), {trained}")
            changes = {"train.epochs": epochs, "evaluate.baseline": True}
            child = Child(recipe=name, changes=changes, data_dir=place / "data", folder=place / "run")
            metrics = run_child(root, child, tracking.key)
            point = Point(
                fraction=fraction,
                samples=card.samples["train"],
                epochs=epochs,
                network=_score(metrics, f"test/{metric}"),
                baseline=_score(metrics, f"baseline/{metric}"),
            )
            points.append(point)
            values = {"network": point.network.value, "baseline": point.baseline.value}
            tracking.metrics({f"learning_curve/{who}": value for who, value in values.items()}, step=point.samples)
        curve = Curve(recipe=name, metric=metric, points=tuple(points))
        tracking.artifacts(write_curve(root / "reports" / name, curve), "learning-curve")
    return curve


def parse_fractions(text: str) -> list[float]:
    """Return the shares in a text such as 0.1,0.3,1.

    Raises:
        InputError: one is no share.
    """
    try:
        fractions = [float(part) for part in text.split(",")]
    except ValueError:
        fractions = []
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise InputError(f"--fractions {text}: these are no shares; expected shares above 0 and at most 1, such as 0.1,0.3,1")
    return fractions


def scaled_epochs(recipe: Recipe, fraction: float) -> int:
    """Return the epochs in which a share of the samples gives about as many steps as all of them do."""
    return max(1, round(recipe.train.epochs / fraction))


def write_curve(folder: Path, curve: Curve) -> list[Path]:
    """Write numbers and charts."""
    from trainyard.studies.curve_figure import draw_curve

    path = folder / "learning_curve.json"
    write_whole(path, f"{json.dumps(asdict(curve), indent=2)}\n".encode())
    return [path, *(draw_curve(curve, folder / f"learning_curve.{kind}") for kind in ("png", "svg"))]


def render(curve: Curve) -> RenderableType:
    """Return the table."""
    names = ("training samples", f"network, {curve.metric}", "baseline")
    rows = []
    for point in curve.points:
        scores = (f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})" for score in (point.network, point.baseline))
        rows.append((f"{point.samples:,} ({point.fraction:.0%})", *scores))
    return Group(Rows(columns(1, names), rows), Text(f"\nreports/{curve.recipe}/learning_curve.json, .png, .svg", style="dim"))


def _score(metrics: dict[str, float], name: str) -> Score:
    return Score(value=metrics[name], low=metrics[f"{name}_low"], high=metrics[f"{name}_high"])
