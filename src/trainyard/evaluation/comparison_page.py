"""`trainyard compare`: two files of results held against one another, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainyard.evaluation.comparison import Difference, McNemar, differences, is_classifier, mcnemar, said
from trainyard.evaluation.results import read_results

WHY_MCNEMAR = (
    "McNemar's exact test: both were asked the same samples, so only those on which they disagree tell them apart "
    "(Dietterich 1998)"
)
WHY_BOOTSTRAP = "paired bootstrap: both are scored on the same resamples, because this metric is no mean over single samples"
WHY_BLOCKS = "paired bootstrap of runs of windows, because windows that follow one another share steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came out."""

    first: str
    second: str
    samples: int
    differences: tuple[Difference, ...]
    """The primary metric first."""
    mcnemar: McNemar | None
    """For classifiers."""
    verdict: str


def compare_files(root: Path, first: str, second: str, resamples: int) -> Compared:
    """Compare two models by their results.

    Args:
        root: the project.
        first: a recipe of it, or the path of a file of results, or the folder of a champion.
        second: another one.
        resamples: of the test samples.

    Raises:
        InputError: one was not evaluated, or they were not tested on the same samples.
        IntegrityError: a file cannot be read.
    """
    one, other = (read_results(place(root, name)) for name in (first, second))
    found = differences(one, other, resamples, 0)
    test = mcnemar(one, other) if is_classifier(one) else None
    return Compared(
        first=first,
        second=second,
        samples=len(one),
        differences=tuple(found),
        mcnemar=test,
        verdict=said(found, test, first, second),
    )


def place(root: Path, name: str) -> Path:
    """Return the file of results that a name stands for."""
    path = root / name
    if (path / "champion.json").is_file():
        return path / "results.parquet"
    return path if path.suffix == ".parquet" else root / "reports" / name / "predictions.parquet"


def render(found: Compared) -> RenderableType:
    """Return the table, the test and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header in ("metric", found.first, found.second, "difference", "95 % interval"):
        table.add_column(header)
    for one in found.differences:
        interval = f"{one.difference.low:+.4f} to {one.difference.high:+.4f}"
        style = "" if one.better == 0 else "bold"
        row = (one.metric, f"{one.first:.4f}", f"{one.second:.4f}", f"{one.difference.value:+.4f}", interval)
        table.add_row(*(Text(cell, style=style) for cell in row))
    lines: list[RenderableType] = [Text(f"{found.samples:,} test samples, the same for both"), table]
    if (test := found.mcnemar) is not None:
        count = f"{test.first_alone:,} samples that only {found.first} gets right, "
        count += f"{test.second_alone:,} that only {found.second} does"
        lines.append(Text(f"{count}: p = {test.probability:.2g}"))
    return Group(*lines, *(Text(f"  {why}", style="dim") for why in reasons(found)), Text(), Text(found.verdict, style="bold"))


def reasons(found: Compared) -> list[str]:
    """Return why each test is the one for its numbers."""
    if found.differences[0].metric == "mse":
        return [WHY_BLOCKS]
    return [*([f"accuracy: {WHY_MCNEMAR}"] if found.mcnemar else []), f"others: {WHY_BOOTSTRAP}"]


def as_json(found: Compared) -> dict[str, Any]:
    """Return the same for programs."""
    return {**asdict(found), "reasons": reasons(found)}
