"""Commands of the lessons: list them, run one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(lessons)
    app.command()(lesson)


def lessons() -> None:
    """List the lessons in order: claims of deep learning, each as a run of seconds with a figure."""
    from trainyard.lessons.catalogue import LESSONS
    from trainyard.terminal import filled

    for name, (number, line) in sorted(LESSONS.items(), key=lambda entry: entry[1]):
        typer.echo(filled(line, 21, first=f"{number:>2}  {name:<16} "))
    typer.echo("Run one: trainyard lesson feedback-loop. Pages with figures: docs/lessons/README.md")


def lesson(
    name: Annotated[str, typer.Argument(help="As `trainyard lessons` lists it, or its number.")] = "",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change its recipes: train.learning_rate=0.1; repeat for more."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and order of samples.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from --seed on.")] = 1,
) -> None:
    """Run a lesson: what is claimed, what comes out here, a figure, and which number to change to see something else."""
    if not name:
        lessons()
        return
    from rich.console import Console

    from trainyard.lessons.run import render, run

    Console().print(render(run(Path.cwd(), name, seed, seeds, change or ())))
