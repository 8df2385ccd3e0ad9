"""The command that puts an exported model into the Android app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(android)


def android(
    recipe: Annotated[str, typer.Argument(help="Whose exported model the app asks; or the path of a model's folder.")],
    app: Annotated[Path, typer.Option(help="Folder of the app's Gradle project.")] = Path("android"),
) -> None:
    """Put a model, with its preprocessing and its test samples, into the Android app, beside those that are there."""
    from trainyard.phone.assets import write_assets
    from trainyard.serving.commands import model_path

    folder, size = write_assets(model_path(recipe), app)
    typer.echo(f"{folder}: {size / 1e6:.1f} MB; build the app as {app}/README.md says")
