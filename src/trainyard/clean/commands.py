"""`trainyard clean`."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trainyard.clean.things import Thing
    from trainyard.terminal import Rows


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(clean)


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is shown. Without it, nothing is.")] = False,
    days: Annotated[float, typer.Option(min=0, help="Of an age that what nobody uses must have.")] = 7.0,
    kind: Annotated[list[str] | None, typer.Option(help="Of one kind alone, as the first column says; may be repeated")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")] = False,
) -> None:
    """Show what takes room and is of no use any more; with --yes, delete it. What a lock, a champion or a run needs stays."""
    from rich.console import Console

    from trainyard.clean.clean import KINDS, remove, things
    from trainyard.errors import InputError
    from trainyard.params import nearest
    from trainyard.provenance import scratch_root
    from trainyard.recipe import read_settings
    from trainyard.tracking.address import tracking_uri

    for name in kind or ():
        if name not in KINDS:
            raise InputError(f"--kind {name}: no such kind; there are {', '.join(KINDS)}{nearest(name, KINDS)}")
    uri = tracking_uri(scratch_root(), read_settings(Path("params.yaml"))[1])
    found = [thing for thing in things(Path.cwd(), uri, days) if not kind or thing.kind in kind]
    if json:
        typer.echo(dumps([as_json(thing) for thing in found], indent=2))
    else:
        if found:
            Console().print(table(found), "")
        typer.echo(last_lines(found, yes))
    if not yes:
        return
    failed = False
    for thing, said in remove(found):
        failed = failed or said.startswith("stays:")
        typer.echo(f"clean: {thing.kind}: {thing.name}: {said}", err=json)
    sys.exit(3 if failed else 0)


def as_json(thing: Thing) -> dict[str, Any]:
    """Return a thing for programs."""
    return {
        "kind": thing.kind,
        "name": thing.name,
        "bytes": thing.bytes,
        "age_seconds": round(thing.age_seconds),
        "goes": thing.remove is not None,
        "why": thing.why,
    }


def table(found: list[Thing]) -> Rows:
    """Return the list for people."""
    from rich.text import Text

    from trainyard.clean.things import DAY
    from trainyard.data.descriptor import human_bytes
    from trainyard.terminal import Column, Rows

    columns = (
        Column(name="kind"),
        Column(name="what", below=True),
        Column(name="size", right=True),
        Column(name="days", right=True),
        Column(name=""),
        Column(name="why", below=True),
    )
    rows: list[tuple[str | Text, ...]] = []
    for thing in found:
        goes = Text("goes", style="red") if thing.remove else Text("stays", style="green")
        rows.append((thing.kind, thing.name, human_bytes(thing.bytes), f"{thing.age_seconds / DAY:.1f}", goes, thing.why))
    return Rows(columns, rows)


def last_lines(found: list[Thing], yes: bool) -> str:
    """Return what it comes to."""
    from trainyard.data.descriptor import human_bytes

    going = [thing for thing in found if thing.remove is not None]
    if not going:
        return "Nothing to delete: all that is here is in use, or too young for --days."
    size = human_bytes(sum(thing.bytes for thing in going))
    entries = "1 entry" if len(going) == 1 else f"{len(going)} entries"
    return f"{size} in {entries}." + ("" if yes else " Nothing was deleted; to delete it: trainyard clean --yes")
