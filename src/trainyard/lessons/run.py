"""One lesson from recipes to figure, and its MLflow run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from trainyard.files import write_whole
from trainyard.lessons.catalogue import LESSONS, Lesson, Table, as_json, known, load, recipe_file, recipes_of
from trainyard.lessons.packs import packed
from trainyard.progress import say
from trainyard.provenance import git_tags
from trainyard.recipe import Recipe, read_settings
from trainyard.terminal import Column, Rows
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig

FIGURES = Path("reports", "lessons")
EXPERIMENT = "lessons"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out of a lesson."""

    name: str
    seeds: tuple[int, ...]
    tables: tuple[Table, ...]
    """By seed."""
    held: tuple[bool, ...]
    """Whether the claim was true, by seed."""
    figure: Path
    """Of the first seed."""


def run(root: Path, name: str, seed: int = 0, seeds: int = 1, changes: Sequence[str] = ()) -> Outcome:
    """Run a lesson with some seeds from `seed` on; write its figure, and record it in MLflow.

    Raises:
        InputError: there is no such lesson, or a change does not fit its recipes.
    """
    name = known(name)
    lesson, folder = load(name), root / ".trainyard" / "lessons" / name
    chosen = tuple(range(seed, seed + seeds))
    recipes = {number: recipes_of(name, folder, number, changes) for number in reversed(chosen)}
    findings: list[Any] = []
    with one_thread(), _tracked(root, name, folder, next(iter(recipes[seed].values())), changes) as tracking:
        for number in chosen:
            if seeds > 1:
                say(name, "lesson", f"seed {number}, {len(findings) + 1} of {seeds}")
            findings.append(lesson.measure(recipes[number], root))
            tracking.metrics(_points(lesson, findings[-1]), step=number)
        figure = lesson.draw(findings[0], root / FIGURES / f"{name}.png")
        write_whole(folder / "finding.json", as_json(findings[0]).encode())
        tracking.artifacts([figure, folder / "finding.json", folder / "params.yaml"], "lesson")
    return Outcome(
        name=name,
        seeds=chosen,
        tables=tuple(lesson.table(finding) for finding in findings),
        held=tuple(lesson.holds(finding) for finding in findings),
        figure=figure.relative_to(root),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: such small networks gain nothing from more, and then add up alike on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _tracked(root: Path, name: str, folder: Path, recipe: Recipe, changes: Iterable[str]) -> Iterator[Tracking]:
    """Open the MLflow run of a lesson, in an experiment of all lessons; its status follows how the block ends."""
    path = root / "params.yaml"
    config = read_settings(path)[1] if path.exists() else TrackingConfig()
    config = replace(config, system_metrics=False, experiment=config.experiment or EXPERIMENT)
    identity = folder / "run.json"
    identity.unlink(missing_ok=True)
    data = packed(recipe, root)
    with Tracking(root, config, recipe, "lesson") as tracking:
        state = hashlib.sha256((folder / "params.yaml").read_bytes()).hexdigest()[:16]
        told = {**git_tags(root), "trainyard.lesson": name, "trainyard.changes": ", ".join(changes)}
        tracking.start(identity, f"lesson-{name}-{state}", data.card, told)
        with tracking.running(folder / "spool.jsonl"):
            yield tracking


def render(outcome: Outcome) -> RenderableType:
    """Return claim, numbers, verdict, and what to change."""
    lesson = load(outcome.name)
    number, line = LESSONS[outcome.name]
    count, held = len(outcome.seeds), sum(outcome.held)
    verdict = {0: "No: the claim did not hold", count: "Yes: the claim held"}.get(held, "Not always: the claim held")
    style = "bold green" if held == count else "bold yellow"
    seeds = f"seed {outcome.seeds[0]}" if count == 1 else f"{held} of {count} seeds; mean (least to most)"
    where = Grid.grid(padding=(0, 2, 0, 0))
    for name, said in (
        ("Figure", str(outcome.figure)),
        ("Change", lesson.CHANGE),
        ("Recipes", str(recipe_file(outcome.name))),
        ("Page", f"docs/lessons/{number:02d}-{outcome.name}.md; MLflow: make ui, experiment {EXPERIMENT}"),
    ):
        where.add_row(name, Text(said, overflow="fold"))
    return Group(
        Text(f"Lesson {number}: {line}\n", style="bold"),
        Text(f"{lesson.CLAIM}\n"),
        _shown(outcome.tables),
        Text(f"\n{verdict} here ({seeds}).", style=style),
        Text(),
        where,
    )


def cells(tables: Sequence[Table]) -> dict[str, list[str]]:
    """Return what stands in each row: a number, or over several seeds its mean, least and most."""
    found: dict[str, list[str]] = {}
    for row in tables[0].rows:
        found[row] = [_cell(values) for values in zip(*(table.rows[row] for table in tables), strict=True)]
    return found


def _cell(values: Sequence[float]) -> str:
    mean, least, most = (_number(found) for found in (fmean(values), min(values), max(values)))
    return mean if least == most else f"{mean} ({least} to {most})"


def _number(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _shown(tables: Sequence[Table]) -> Rows:
    columns = [Column(name=""), *(Column(name=header, right=True, below=True) for header in tables[0].headers)]
    return Rows(columns, [(row, *values) for row, values in cells(tables).items()])


def _points(lesson: Lesson, finding: Any) -> dict[str, float]:
    """Return the numbers of a table, and whether the claim holds, under names that MLflow takes."""
    table = lesson.table(finding)
    points = {
        f"{_name(header)}/{_name(row)}": value
        for row, values in table.rows.items()
        for header, value in zip(table.headers, values, strict=False)
    }
    return {**points, "holds": float(lesson.holds(finding))}


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in text).strip()
