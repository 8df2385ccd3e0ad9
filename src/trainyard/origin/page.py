"""What `which` and `reproduce` found, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from trainyard.origin.reproduce import Report
from trainyard.origin.which import Answer


def render_answer(answer: Answer) -> Table:
    """Return where a file comes from, a line a thing."""
    stage = "@".join(filter(None, (answer.stage, answer.recipe)))
    found: list[tuple[str, str | Text]] = [
        ("file", Text(answer.path, style="bold")),
        ("stage", f"{stage or '-'}: {answer.how}"),
    ]
    run = answer.run
    if run.get("name"):
        said = f" ({run['exit']})" if run.get("exit") not in (None, "", "finished") else ""
        found.append(("run", f"{run['run_id']}, {run['name']}, {run['status']}{said}\nin {run['store']}"))
    elif run:
        found.append(("run", ", ".join(f"{key} {value}" for key, value in run.items() if value)))
    for user in answer.users:
        found.append(("trained", user))
    if answer.code.get("commit"):
        state = {"none": "", "whole": ", and its files origin/uncommitted.patch"}.get(
            answer.code["patch"], ", and files that differed, not all of which are in origin/uncommitted.patch"
        )
        found.append(("code", f"git commit {answer.code['commit']}{state}"))
    if answer.data:
        found.append(("data", _data(answer.data)))
    if answer.machine:
        facts = answer.machine
        named = ("processor", "gpu", "python", "torch", "pytorch-lightning", "ray")
        found.append(("machine", ", ".join(f"{name} {facts[name]}" for name in named if name in facts)))
    for note in answer.notes:
        found.append(("note", Text(note, style="yellow")))
    if run.get("name") and answer.code.get("commit"):
        found.append(("again", f"trainyard reproduce {run['run_id']}"))
    return _rows(found)


def _data(data: dict[str, Any]) -> str:
    lines = []
    if data.get("source"):
        counts = ", ".join(f"{count:,} {split}" for split, count in data["samples"].items())
        lines.append(f"{data['source']}: {counts} samples")
    if data.get("sha256"):
        lines.append(f"sha256 {data['sha256']}")
    if data.get("packed"):
        lines.append(f"{data['packed']}, md5 {data['md5']}")
    if data.get("raw_md5"):
        lines.append(f"from {data.get('raw', 'raw data')}, md5 {data['raw_md5']}")
    return "\n".join(lines)


def render_report(report: Report) -> Table:
    """Return what came of doing a run again."""
    found: list[tuple[str, str | Text]] = [("run", f"{report.run_id}, {report.name}"), ("commit", report.commit)]
    if report.compared:
        found.append(("compared", ", ".join(report.compared)))
    if report.identical:
        found.append(("result", Text("bit-identical", style="green")))
    else:
        found.append(("result", Text("differs", style="red")))
        if report.first is not None:
            found.append(("first", f"{report.first}"))
        unknown = "nothing that was recorded differs: the arithmetic is not deterministic (train.deterministic: true may help)"
        found.append(("cause", "\n".join(map(str, report.causes)) or unknown))
    for note in report.notes:
        found.append(("note", Text(note, style="yellow")))
    found.append(("kept", report.kept))
    return _rows(found)


def _rows(found: Iterable[tuple[str, str | Text]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found:
        # As text, because what stands in brackets would be taken for a style.
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table
