"""The command that makes a page of an exported model, and shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(web)


def web(
    recipe: Annotated[str, typer.Argument(help="Whose exported model answers; or the path of a model's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; web/RECIPE where it is left out.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free, which is said.")] = 8080,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Write it, and do not show it.")] = False,
) -> None:
    """Write a folder of static files in which the model answers in the browser, and show it on 127.0.0.1."""
    from trainyard.serving.commands import model_path
    from trainyard.web.folder import write_folder

    bundle = model_path(recipe)
    folder = out or Path("web", bundle.resolve().name)
    size = write_folder(bundle, folder)
    typer.echo(f"{folder}: {size / 1e6:.1f} MB of static files, for any web server")
    if no_serve:
        typer.echo("Show it here: the same without --no-serve. Elsewhere: copy the folder to where static files are served")
    else:
        from trainyard.web.server import serve as show

        show(folder, port)
