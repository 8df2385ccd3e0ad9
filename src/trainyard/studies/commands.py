"""Commands that take several trainings: sweep."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from trainyard.errors import Interrupted

PARAMS = Path("params.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sweep)


def sweep(
    recipe: Annotated[str, typer.Argument(help="Which has an entry in `sweep:` of params.yaml.")],
    apply: Annotated[bool, typer.Option("--apply", help="Write the best trial's values into params.yaml.")] = False,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Train and test the best trial's values as an experiment of DVC, too.")
    ] = "",
    trials: Annotated[int | None, typer.Option(min=1, help="Instead of the number in params.yaml.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget the trials that there are.")] = False,
) -> None:
    """Try values of a recipe, and show as a diff of params.yaml those that its validation split likes best.

    Stopped or killed, the same command continues: no trial is lost or made twice.
    """
    with resumable():
        from rich.console import Console

        from trainyard.recipe import read_recipe
        from trainyard.studies.sweep import sweep as try_values
        from trainyard.studies.sweep_report import render
        from trainyard.studies.winner import change_to, run_experiment

        console = Console()
        swept = try_values(Path.cwd(), recipe, trials=trials, again=again)
        console.print(render(swept))
        change = change_to(PARAMS, read_recipe(PARAMS, recipe), swept.values)
        if not change.values:
            typer.echo("The best trial is the recipe as it is: there is nothing to change.")
            return
        for line in change.diff():
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
        if experiment:
            run_experiment(Path.cwd(), change, experiment)
            typer.echo(f"dvc exp show, dvc exp diff {experiment}; dvc exp apply {experiment} takes it over")
        if apply:
            change.apply()
            typer.echo(f"Written to {PARAMS}. Next: dvc repro train@{recipe}")
        else:
            typer.echo(f"Nothing was changed. To write it: trainyard sweep {recipe} --apply")


class Told(KeyboardInterrupt):
    """SIGTERM came, which ends what is under way as Ctrl-C does: nothing may catch it on its way."""


@contextmanager
def resumable() -> Iterator[None]:
    """End with exit code 130 after Ctrl-C and with 75 after SIGTERM, once what is under way has saved."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Told:
        raise Interrupted("was told to end; run the same command again to continue") from None
    except KeyboardInterrupt:
        typer.echo("\nstopped; run the same command again to continue", err=True)
        sys.exit(130)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Told
