"""Commands that ask where something comes from: which, reproduce."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainyard.tracking.lookup import Lookup

Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands: tuple[Callable[..., None], ...] = (which, reproduce)
    for command in commands:
        app.command()(command)


def which(
    path: Annotated[Path, typer.Argument(help="A file that a stage made, or a copy of one; or a folder of figures or data.")],
    json: Json = False,
) -> None:
    """Name the run, the data and the code that a file comes from."""
    from trainyard.origin.which import which as look_up

    answer = look_up(Path.cwd(), path, _store)
    if json:
        typer.echo(dumps(asdict(answer), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from trainyard.origin.page import render_answer

    Console().print(render_answer(answer))


def reproduce(
    run: Annotated[str, typer.Argument(help="A run's id, name or fingerprint; or a recipe, for the run of its model.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files that it made also where they are the same.")] = False,
    json: Json = False,
) -> None:
    """Do a run again from its commit, parameters and data, and compare: exit code 0 where all bits are the same, else 1."""
    from trainyard.origin.reproduce import reproduce as do_again

    report = do_again(Path.cwd(), run, _store, lambda text: typer.echo(f"reproduce · {text}", err=True), keep=keep)
    if json:
        typer.echo(dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        from trainyard.origin.page import render_report

        Console().print(render_report(report))
    sys.exit(0 if report.identical else 1)


def _store() -> Lookup:
    from trainyard.provenance import scratch_root
    from trainyard.recipe import read_settings
    from trainyard.tracking.address import tracking_uri
    from trainyard.tracking.lookup import Lookup

    return Lookup(tracking_uri(scratch_root(), read_settings(Path("params.yaml"))[1]))
