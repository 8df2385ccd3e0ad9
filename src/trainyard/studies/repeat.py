"""`trainyard repeat`: one recipe with several seeds, because one training says little of the next one.

The seed decides the first weights, the order of the samples, augmentation and dropout. The standard deviation over seeds is
that of single trainings (with n - 1 below the line); the interval is for their mean, by Student's t (Bouthillier 2021,
arXiv:2103.03098, on why a comparison of single trainings misleads).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.progress import say
from trainyard.studies.children import Child, run_child
from trainyard.studies.parent import parent_run, prepared
from trainyard.tasks.primary import PRIMARY
from trainyard.terminal import Rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A metric over several trainings."""

    values: tuple[float, ...]
    """By seed, in their order."""
    mean: float
    std: float
    """Of single trainings."""
    least: float
    most: float
    low: float
    high: float
    """Of the 95 % interval of the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What came out."""

    recipe: str
    seeds: tuple[int, ...]
    primary: str
    metrics: dict[str, Spread]
    """The primary one first."""


def repeat(root: Path, name: str, seeds: int) -> Repeated:
    """Train and evaluate a recipe with `seeds` seeds, from its own one on, and write reports/<recipe>/repeat.json.

    What was done before the command was stopped is not done again.

    Raises:
        InputError: fewer than two seeds, or data that were not prepared.
        TrainyardError: a stage failed.
    """
    if seeds < 2:
        raise InputError(f"--seeds {seeds}: one training has no spread; ask for 2 or more")
    recipe, data_dir = prepared(root, name)
    folder = root / ".trainyard" / "studies" / name / "repeat"
    chosen = tuple(range(recipe.train.seed, recipe.train.seed + seeds))
    found: list[dict[str, float]] = []
    with parent_run(root, recipe, "repeat", folder, {"trainyard.seeds": ", ".join(map(str, chosen))}) as tracking:
        for number, seed in enumerate(chosen):
            say(name, "repeat", f"seed {seed}, {number + 1} of {seeds}")
            # The baseline does not depend on the network's seed.
            changes = {"train.seed": seed, "evaluate.baseline": False}
            child = Child(recipe=name, changes=changes, data_dir=data_dir, folder=folder / f"seed-{seed}")
            found.append(run_child(root, child, tracking.key))
        repeated = summarise(name, chosen, PRIMARY[recipe.kind], found)
        path = root / "reports" / name / "repeat.json"
        write_whole(path, f"{json.dumps(asdict(repeated), indent=2)}\n".encode())
        for metric, spread in repeated.metrics.items():
            tracking.metrics({f"repeat/{metric}_{part}": getattr(spread, part) for part in ("mean", "std", "least", "most")})
            for seed, value in zip(chosen, spread.values, strict=True):
                tracking.metrics({f"repeat/{metric}": value}, step=seed)
        tracking.artifacts([path], "repeat")
    return repeated


def summarise(recipe: str, seeds: tuple[int, ...], primary: str, found: list[dict[str, float]]) -> Repeated:
    """Return the spread of every metric of the test split that has an interval of its own."""
    names = [name[5:] for name in found[0] if name.startswith("test/") and f"{name}_low" in found[0]]
    names.sort(key=lambda name: name != primary)
    spreads = {name: spread([metrics[f"test/{name}"] for metrics in found]) for name in names}
    return Repeated(recipe=recipe, seeds=seeds, primary=primary, metrics=spreads)


def spread(values: list[float]) -> Spread:
    """Return mean, standard deviation and range of two or more values, and the interval of the mean."""
    from scipy.stats import t

    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, len(values) - 1)) * std / len(values) ** 0.5
    return Spread(
        values=tuple(values), mean=mean, std=std, least=min(values), most=max(values), low=mean - half, high=mean + half
    )


def render(repeated: Repeated) -> RenderableType:
    """Return the table."""
    names = ("metric", "mean (95 % of the mean)", "std of one training", "least to most")
    rows = []
    for name, found in repeated.metrics.items():
        mean = f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"
        rows.append((name, mean, f"{found.std:.4f}", f"{found.least:.4f} to {found.most:.4f}"))
    table = Rows(columns(1, names), rows)
    seeds = f"{repeated.recipe}: {len(repeated.seeds)} seeds, {repeated.seeds[0]} to {repeated.seeds[-1]}, test split"
    return Group(Text(f"{seeds}\n"), table, Text(f"\nreports/{repeated.recipe}/repeat.json", style="dim"))
