"""Commands that work on a cluster from outside it: submit, attach, jobs, logs, stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainyard.jobs.follow import Line
    from trainyard.training.cluster_config import ClusterConfig

Address = Annotated[
    str | None,
    typer.Option(help="The head's dashboard, http://HEAD:8265. Else RAY_API_SERVER_ADDRESS or cluster.submit_address."),
]
Patience = Annotated[float, typer.Option(min=0, help="Seconds to try again when the connection is lost.")]
JobID = Annotated[str, typer.Argument(metavar="ID", help="As `trainyard jobs` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands: tuple[Callable[..., None], ...] = (submit, attach, jobs, logs, stop)
    for command in commands:
        app.command()(command)


def submit(
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", help="Stages, such as train@cnn.")],
    address: Address = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A variable the job gets, such as AWS_SECRET_ACCESS_KEY.")
    ] = None,
    shared: Annotated[str, typer.Option(help="Folder on the cluster where this project is; then no remote is needed.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Run once more what succeeded.")] = False,
    patience: Patience = 600.0,
) -> None:
    """Run stages on a cluster and bring dvc.lock up to date. Ctrl-C leaves the job at work; the same command rejoins it."""
    from trainyard.jobs.submit import Options
    from trainyard.jobs.submit import submit as submit_job

    cluster = _cluster()
    options = Options(secrets=tuple(env or ()), shared=shared or None, again=again, insecure=cluster.insecure)
    submit_job(Path.cwd().resolve(), tuple(targets), _line(address, patience), options, _show)


def attach(name: JobID, address: Address = None, patience: Patience = 600.0) -> None:
    """Rejoin a job by its ID, also after the project changed here, and bring dvc.lock up to date when it is done."""
    from trainyard.jobs.submit import attach as attach_job

    attach_job(Path.cwd().resolve(), name, _line(address, patience), _show)


def jobs(address: Address = None) -> None:
    """List the jobs that `trainyard submit` sent to a cluster, whoever sent them."""
    from rich.console import Console

    from trainyard.jobs.submit import table

    line = _line(address, 0.0)
    line.server.check()
    found = line.ask(line.server.jobs)
    if found:
        Console().print(table(found))
    else:
        typer.echo("none was sent there yet; to send one: trainyard submit train@cnn")


def logs(name: JobID, address: Address = None, patience: Patience = 600.0) -> None:
    """Show a job's whole log, and follow it while it runs."""
    from trainyard.jobs.submit import known, watch

    line = _line(address, patience)
    line.server.check()
    known(line, name)
    watch(None, name, line, _show, from_start=True)


def stop(name: JobID, address: Address = None) -> None:
    """End a job; it has half a minute to write a checkpoint, and the same submit continues it."""
    from trainyard.jobs.submit import stop as stop_job

    stop_job(name, _line(address, 60.0))


def _line(address: str | None, patience_seconds: float) -> Line:
    from trainyard.jobs.server import choose_address, find_token
    from trainyard.jobs.submit import connect

    return connect(choose_address(address, _cluster().submit_address), find_token(), _say, patience_seconds)


def _cluster() -> ClusterConfig:
    from trainyard.recipe import read_settings
    from trainyard.training.cluster_config import ClusterConfig

    params = Path("params.yaml")
    return read_settings(params)[0] if params.exists() else ClusterConfig()


def _show(text: str) -> None:
    typer.echo(text)


def _say(text: str) -> None:
    typer.echo(f"trainyard · {text}", err=True)
