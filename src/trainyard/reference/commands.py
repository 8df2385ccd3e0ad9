"""Command of the reference: say what a key of params.yaml means."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    key: Annotated[
        str, typer.Argument(help="A block or a key, such as train or train.learning_rate; the blocks, left out.")
    ] = "",
) -> None:
    """Say what a key of params.yaml means: what may stand there, what is there when it is left out, and what it does."""
    from trainyard.reference.blocks import blocks, find
    from trainyard.reference.keys import about
    from trainyard.terminal import filled

    if not key:
        for block in blocks():
            typer.echo(f"{block.place:<15} {block.where}".rstrip())
            typer.echo(filled(about(block.config).partition("\n")[0], 16))
        typer.echo("Ask for one, or for a key: trainyard explain train.learning_rate")
        return
    for block, keys in find(key):
        typer.echo(f"{block.place}{f' ({block.where})' if block.where else ''}")
        for found in keys:
            typer.echo(filled(f"{found.path}: {found.values}; {found.without}", 6, first="  "))
            typer.echo(filled(found.effect, 6))
