"""`trainyard plan`."""

from __future__ import annotations

import os
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trainyard.plan.calibrate import Measured
    from trainyard.plan.estimate import Estimate
    from trainyard.plan.steps import Step
    from trainyard.terminal import Rows

    Planned = list[tuple[Step, Estimate | None]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages or recipes, such as train@cnn; all by default.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="To measure steps for, a recipe; 0: from the last run alone.")] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")] = False,
) -> None:
    """Say what `dvc repro` would run and why, with an estimate of time and memory. Changes nothing."""
    from rich.console import Console

    from trainyard.plan.estimate import estimate
    from trainyard.plan.steps import steps
    from trainyard.recipe import read_all
    from trainyard.terminal import filled
    from trainyard.training.hardware import gpus, processors
    from trainyard.training.room import count_workers

    recipes, cluster, _ = read_all(Path("params.yaml"))
    found = steps(Path.cwd(), [recipe.name for recipe in recipes], targets or [])
    by_name = {recipe.name: recipe for recipe in recipes}
    address = os.environ.get("RAY_ADDRESS") or cluster.address
    workers = count_workers(cluster, address)
    planned: Planned = []
    for step in found:
        taken = estimate(Path.cwd(), step, by_name[step.recipe], cluster, workers, seconds, _told) if step.runs else None
        planned.append((step, taken))
    if json:
        typer.echo(dumps([as_json(*each) for each in planned], indent=2, ensure_ascii=False))
        return
    Console().print(table(planned))
    here = f"{processors()} processors, {gpus()} GPUs, {workers or 'no'} workers"
    if address != "local":
        here = f"one worker of {address} as this machine would run it"
    typer.echo(f"\n{filled(f'{summary(planned)} Estimated for {here}.', 0)}")


def _told(root: Path, recipe: str, data_dir: Path, workers: int, threads: int, seconds: float) -> Measured | str:
    """Measure, and say so before: it takes some seconds."""
    from trainyard.plan.calibrate import calibrate

    typer.echo(f"plan · train@{recipe}: measures some steps", err=True)
    return calibrate(root, recipe, data_dir, workers, threads, seconds)


def as_json(step: Step, estimate: Estimate | None) -> dict[str, Any]:
    """Return a stage for programs."""
    return {
        "stage": step.name,
        "runs": step.runs,
        "restored": step.restored,
        "reasons": list(step.reasons),
        "estimate": None if estimate is None else asdict(estimate),
    }


def table(planned: Planned) -> Rows:
    """Return the list for people; what stays as it is takes one line."""
    from rich.text import Text

    from trainyard.data.descriptor import human_bytes
    from trainyard.evaluation.summary import duration
    from trainyard.terminal import Column, Rows

    columns = (
        Column(name="stage"),
        Column(name=""),
        Column(name="why", below=True),
        Column(name="time", right=True),
        Column(name="memory", right=True),
        Column(name="estimated from", below=True),
    )
    rows: list[tuple[str | Text, ...]] = []
    for step, estimate in planned:
        if not step.runs and not step.restored:
            rows.append((step.name, Text("up to date", style="green")))
            continue
        what = Text("runs", style="red") if step.runs else Text("restored", style="yellow")
        time, memory, how = "", "", "DVC's cache has its result" if step.restored else ""
        if estimate is not None:
            time = "?" if estimate.seconds is None else duration(estimate.seconds)
            memory = "?" if estimate.bytes is None else human_bytes(estimate.bytes)
            memory += f"\nGPU {human_bytes(estimate.gpu_bytes)}" if estimate.gpu_bytes else ""
            how = estimate.how
        rows.append((step.name, what, "\n".join(step.reasons), time, memory, how))
    return Rows(columns, rows)


def summary(planned: Planned) -> str:
    """Return what it comes to."""
    from trainyard.evaluation.summary import duration

    running = [estimate for step, estimate in planned if step.runs and estimate is not None]
    if not running:
        restored = sum(step.restored for step, _ in planned)
        what = (
            f"DVC's cache has the results of {restored} stage{'s' * (restored != 1)}"
            if restored
            else "all results are those of what is here"
        )
        return f"Nothing runs: {what}."
    one = len(running) == 1
    runs = "1 stage runs" if one else f"{len(running)} stages run"
    known = [estimate.seconds for estimate in running if estimate.seconds is not None]
    if not known:
        packed = not any("needs its data" in estimate.how for estimate in running)
        why = f"nothing like {'it' if one else 'them'} has run here yet"
        why = why if packed else "the data are not packed yet: dvc repro prepare"
        return f"{runs}; how long {'it takes' if one else 'they take'} is not known: {why}."
    unknown = len(running) - len(known)
    rest = f", without {unknown} of which nothing is known yet" if unknown else ""
    return f"{runs}: about {duration(sum(known))}{rest}."
