"""What `which`, `reproduce`, `plan` and `clean` found, for people and for programs."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from trainyard.origin.reproduce import Report
from trainyard.origin.which import Answer


def render_answer(answer: Answer) -> Table:
    """Return where a file comes from, a line a thing."""
    table = rows()
    stage = "@".join(filter(None, (answer.stage, answer.recipe)))
    table.add_row("file", Text(answer.path, style="bold"))
    table.add_row("stage", f"{stage or '-'}: {answer.how}")
    run = answer.run
    if run.get("name"):
        said = f" ({run['exit']})" if run.get("exit") not in (None, "", "finished") else ""
        table.add_row("run", f"{run['run_id']}, {run['name']}, {run['status']}{said}\nin {run['store']}")
    elif run:
        table.add_row("run", ", ".join(f"{key} {value}" for key, value in run.items() if value))
    for user in answer.users:
        table.add_row("trained", user)
    if answer.code.get("commit"):
        state = {"none": "", "whole": ", and its files origin/uncommitted.patch"}.get(
            answer.code["patch"], ", and files that differed, not all of which are in origin/uncommitted.patch"
        )
        table.add_row("code", f"git commit {answer.code['commit']}{state}")
    if answer.data:
        table.add_row("data", _data(answer.data))
    if answer.machine:
        facts = answer.machine
        named = ("processor", "gpu", "python", "torch", "pytorch-lightning", "ray")
        table.add_row("machine", ", ".join(f"{name} {facts[name]}" for name in named if name in facts))
    for note in answer.notes:
        table.add_row("note", Text(note, style="yellow"))
    if run.get("name") and answer.code.get("commit"):
        table.add_row("again", f"trainyard reproduce {run['run_id']}")
    return table


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
    table = rows()
    table.add_row("run", f"{report.run_id}, {report.name}")
    table.add_row("commit", report.commit)
    if report.compared:
        table.add_row("compared", ", ".join(report.compared))
    if report.identical:
        table.add_row("result", Text("bit-identical", style="green"))
    else:
        table.add_row("result", Text("differs", style="red"))
        if report.first is not None:
            table.add_row("first", f"{report.first}")
        unknown = "nothing that was recorded differs: the arithmetic is not deterministic (train.deterministic: true may help)"
        table.add_row("cause", "\n".join(map(str, report.causes)) or unknown)
    for note in report.notes:
        table.add_row("note", Text(note, style="yellow"))
    table.add_row("kept", report.kept)
    return table


def rows() -> Table:
    """Return an empty table of names and values."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table
