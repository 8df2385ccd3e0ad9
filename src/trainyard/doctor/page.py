"""The report for a person, and for a program. Nothing secret is in either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainyard.doctor.examine import Report, exit_code
from trainyard.doctor.finding import Finding, Status
from trainyard.masking import mask
from trainyard.training.preflight import Answer

MARKS: dict[Status, tuple[str, str]] = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "red")}


def render(report: Report, nodes: RenderableType | None = None) -> RenderableType:
    """Return the page: a line for each finding, its fix below it; the nodes of a cluster, and the sum at the end."""
    parts = [part for chapter in report.items() for part in (_chapter(*chapter), Text())]
    return Group(*parts, *([] if nodes is None else [nodes, Text()]), _sum(report))


def as_json(report: Report, nodes: Sequence[Answer] = ()) -> dict[str, Any]:
    """Return the report, and what the nodes of a cluster said, as plain values."""
    chapters = {chapter: [_masked(asdict(finding)) for finding in findings] for chapter, findings in report.items()}
    return {"chapters": chapters, "nodes": [asdict(answer) for answer in nodes], "exit_code": exit_code(report)}


def _masked(values: dict[str, Any]) -> dict[str, Any]:
    return {key: mask(value) if isinstance(value, str) else value for key, value in values.items()}


def _chapter(name: str, findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    table.add_column(name, no_wrap=True, min_width=22)
    table.add_column("", no_wrap=True, min_width=7)
    table.add_column("", overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.status]
        found = Text(mask(finding.found))
        if finding.fix:
            found.append(f"\n-> {mask(finding.fix)}", style="bold")
        table.add_row(Text(finding.about), Text(mark, style=colour), found)
    return table


def _sum(report: Report) -> Text:
    statuses = [finding.status for findings in report.values() for finding in findings]
    problems, warnings = statuses.count("problem"), statuses.count("warning")
    if not problems and not warnings:
        return Text("Nothing to do.", style="green")
    return Text(
        f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}; what to do stands behind each ->.",
        style="red" if problems else "yellow",
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
