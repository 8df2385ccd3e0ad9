"""What all recipes reached, in one table on the terminal. Reads the JSON reports alone, so it is quick."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from trainyard.errors import IntegrityError
from trainyard.tasks.primary import PRIMARY, merit

STAGES = ("train", "evaluate", "export")
READ = (*STAGES, "gate")
NOTHING = "-"
NAMES = {"mean_iou": "mean IoU", "macro_f1": "macro F1", "mse": "MSE, lower wins"}
WHERE_NEXT = (
    ("make ui", "curves, parameters and files of every run"),
    ("dvc metrics show", "all numbers; `dvc metrics diff`: what changed"),
    ("dvc dag", "which stage depends on which"),
    ("reports/<recipe>/figures", "learning curves, confusion matrix, classes, samples"),
    ("models/<recipe>/card.html", "what an exported model is, and how to use it"),
    ("trainyard predict <recipe>", "its answers to files of yours, named after it"),
    ("trainyard web <recipe>", "its answers in a browser, with no server"),
)

Reports = dict[str, dict[str, Any]]
"""The JSON of each stage that has run."""


def render(root: Path, known: Collection[str] | None = None) -> RenderableType:
    """Return the table of all recipes under `root`/reports, and where to look next.

    Args:
        root: folder of the project.
        known: names of the recipes that params.yaml has; None: it cannot be read.

    Raises:
        IntegrityError: a report cannot be read.
    """
    recipes = {folder.name: read_reports(folder) for folder in sorted((root / "reports").glob("*/"))}
    recipes = {name: reports for name, reports in recipes.items() if reports}
    if not recipes:
        return Text(f"{root / 'reports'}: no recipe has been trained yet; run `make run`")
    gone = [] if known is None else [name for name in recipes if name not in known]
    return Group(_table(recipes), *_not_known(gone), Text(), _where_next())


def read_reports(folder: Path) -> Reports:
    """Return the reports of the stages that have run.

    Raises:
        IntegrityError: one cannot be read.
    """
    found: Reports = {}
    for stage in READ:
        path = folder / f"{stage}.json"
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to make it again") from None
        if not isinstance(values, dict):
            raise IntegrityError(f"{path}: holds no metrics by name; run `dvc repro` to make it again")
        # The gate's is about its reasons, too.
        if stage in STAGES and (odd := [name for name, value in values.items() if not isinstance(value, int | float)]):
            raise IntegrityError(f"{path}: {odd[0]} is {values[odd[0]]!r}, no number; run `dvc repro` to make it again")
        found[stage] = values
    return found


def verdict(scores: dict[str, Any], primary: str) -> Text:
    """Say which of model and baseline is better, if the interval of their difference leaves 0 out."""
    low, high = (scores.get(f"test/{primary}_minus_baseline_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return Text(NOTHING)
    if not (low > 0 or high < 0):
        return Text("unclear", style="yellow")
    return Text("model", style="green") if merit(primary, low) > 0 else Text("baseline", style="red")


def duration(seconds: float) -> str:
    """Return seconds as 8.6 s, 4:05 min or 2:10 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def epochs(count: int) -> str:
    """Return a number of epochs as 1 epoch or 30 epochs."""
    return f"{count} epoch{'' if count == 1 else 's'}"


def file_size(size: float) -> str:
    """Return bytes as 512 B, 31 kB or 4.2 MB."""
    if size < 1000:
        return f"{size:.0f} B"
    return f"{size / 1e3:.0f} kB" if size < 999_500 else f"{size / 1e6:.1f} MB"


def _table(recipes: dict[str, Reports]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    # Where the line is short, names go on below; a number without its end is none.
    table.add_column("recipe", overflow="fold")
    for header in ("test (95 %)", "baseline", "better"):
        table.add_column(header, no_wrap=True)
    for header in ("training", "export", "latency"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, reports in recipes.items():
        table.add_row(*_row(name, reports))
    return table


def _not_known(names: Sequence[str]) -> list[Text]:
    """Say of which recipes the table shows what they were, because no `dvc repro` makes them again."""
    if not names:
        return []
    listed = ", ".join(names)
    folders = f"reports/{names[0]}" if len(names) == 1 else "their folders in reports/"
    return [Text(f"not in params.yaml any more: {listed}; delete {folders} to leave them out here", style="yellow")]


def _row(name: str, reports: Reports) -> list[RenderableType]:
    train, scores, export = (reports.get(stage, {}) for stage in STAGES)
    primary = _primary(train, scores)
    training = f"{duration(train['seconds'])}\n{epochs(train['epochs'])}" if "seconds" in train else NOTHING
    size = file_size(export["size_bytes"]) if "size_bytes" in export else NOTHING
    latency = f"{export['latency_p50_ms']:.2f} ms" if "latency_p50_ms" in export else NOTHING
    return [
        Group(_Name(name), Text(NAMES.get(primary, primary), style="dim")),
        _score(scores, f"test/{primary}"),
        _score(scores, f"baseline/{primary}"),
        Text.assemble(verdict(scores, primary), *_gate(reports.get("gate", {}))),
        training,
        size,
        latency,
    ]


class _Name:
    """A recipe's name, which goes on below where the line is short: after a hyphen, if it has any."""

    def __init__(self, name: str) -> None:
        self.pieces = re.split(r"(?<=[-_.])", name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self.pieces)), len("".join(self.pieces)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = [""]
        for piece in self.pieces:
            if len(lines[-1]) + len(piece) > options.max_width:
                lines.append("")
            lines[-1] += piece
        yield Text("\n".join(filter(None, lines)), style="bold", overflow="fold")


def _primary(train: dict[str, Any], scores: dict[str, Any]) -> str:
    """Return the metric that the recipe was chosen by, which its reports name."""
    for name in PRIMARY.values():
        if f"best/{name}" in train or f"test/{name}_minus_baseline" in scores:
            return name
    return next((name for name in PRIMARY.values() if f"test/{name}" in scores), NOTHING)


def _score(scores: dict[str, Any], name: str) -> Text:
    if name not in scores:
        return Text(NOTHING)
    text = Text(f"{scores[name]:.3f}")
    if f"{name}_low" in scores:
        text.append(f"\n{scores[f'{name}_low']:.3f}-{scores[f'{name}_high']:.3f}", style="dim")
    return text


def _gate(verdict: dict[str, Any]) -> list[str | tuple[str, str]]:
    """Return a second line where the gate is not content with a model."""
    return [] if verdict.get("passed", True) else ["\n", ("gate: no", "red")]


def _where_next() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for command, shown in WHERE_NEXT:
        table.add_row(Text(command, style="cyan"), Text(shown))
    return table
