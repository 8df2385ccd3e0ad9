"""`trainyard ...`: what a person types beside `dvc`."""

from __future__ import annotations

import sys
from contextlib import suppress
from json import dumps
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from trainyard.clean import commands as clean_commands
from trainyard.command_help import arrange
from trainyard.errors import InputError, TrainyardError
from trainyard.intake import commands as intake_commands
from trainyard.jobs import commands as job_commands
from trainyard.lessons import commands as lesson_commands
from trainyard.masking import mask
from trainyard.origin import commands as origin_commands
from trainyard.phone import commands as phone_commands
from trainyard.plan import commands as plan_commands
from trainyard.reference import commands as reference_commands
from trainyard.serving import commands as serving_commands
from trainyard.studies import commands as study_commands
from trainyard.web import commands as web_commands

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
PARAMS = Path("params.yaml")


@app.callback()
def trainyard() -> None:
    """Train CNNs, U-Nets and LSTMs in one reproducible pipeline."""


@app.command()
def repair(
    cache: Annotated[
        bool, typer.Option("--cache", help="Hash DVC's cache too, and put right or delete what is damaged there.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until no other dvc is at work here.")] = False,
) -> None:
    """Put right what a killed `dvc` or a broken disk left damaged, so that `dvc repro` runs; whole files are not touched."""
    from trainyard.dvc_processes import at_work
    from trainyard.repair import repair as put_right
    from trainyard.repair import wait_for_others

    if wait:
        wait_for_others(Path.cwd(), typer.echo)
    done = put_right(Path.cwd())
    if cache:
        from trainyard.dvc_cache import mend_cache

        done += mend_cache(Path.cwd())
    for line in done or ["nothing to repair"]:
        typer.echo(f"repair: {line}")
    for process in at_work(Path.cwd()):
        typer.echo(f"repair: at work here: {process}")


@app.command()
def report() -> None:
    """Show what the recipes reached, and where to look next."""
    from rich.console import Console

    from trainyard.evaluation.summary import render
    from trainyard.params import Params, ParamsError

    if not PARAMS.exists():
        raise InputError(f"{PARAMS}: no such file; run this in the folder that holds params.yaml")
    known = None
    with suppress(ParamsError):
        known = Params(PARAMS).block("recipes")
    Console().print(render(Path.cwd(), known))


@app.command()
def promote(
    recipe: Annotated[str, typer.Argument(help="Whose model, as it is now, later ones are held against.")],
    force: Annotated[bool, typer.Option("--force", help="Also where the model did not pass the gate.")] = False,
) -> None:
    """Make a recipe's model its champion: stage `gate` refuses models that are worse than it, beyond chance."""
    from trainyard.evaluation.champion import promote as make_champion
    from trainyard.provenance import git_tags
    from trainyard.recipe import read_recipe, read_settings
    from trainyard.tracking.promotion import tell

    found = read_recipe(PARAMS, recipe)
    commit = git_tags(Path.cwd()).get("mlflow.source.git.commit", "")
    champion = make_champion(Path.cwd(), found.name, commit, force=force)
    tell(Path.cwd(), read_settings(PARAMS)[1], found, champion.fingerprint, Path("data", "prepared", found.name))
    typer.echo(
        f"{found.name}: {champion.fingerprint} is the champion, {champion.metric} {champion.value:.4f}. "
        "Next: git add champions, git commit; from then on `dvc repro` holds models against it"
    )


@app.command()
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="A B ...",
            help="Recipes; ids, names or fingerprints of MLflow runs; paths of a predictions.parquet or a champion's folder.",
        ),
    ],
    page: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("reports", "comparison.html"),
    resamples: Annotated[
        int | None, typer.Option(min=100, help="Of the test samples, for the intervals; 10000 for two models, 4000 for more.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")] = False,
) -> None:
    """Hold models against the first one: is a difference real, what differs, and where? Also as one HTML page."""
    from trainyard.comparing.compare import as_json, render
    from trainyard.comparing.compare import compare as hold
    from trainyard.recipe import read_settings

    found = hold(Path.cwd(), read_settings(PARAMS)[1], names, page, resamples)
    if json:
        typer.echo(dumps(as_json(found), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(render(found))


@app.command()
def repeat(
    recipe: Annotated[str, typer.Argument(help="The recipe to train several times.")],
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds, from the recipe's own one on.")] = 5,
) -> None:
    """Train a recipe with several seeds, and say how much its test metrics differ from one to the next."""
    from rich.console import Console

    from trainyard.studies.repeat import render
    from trainyard.studies.repeat import repeat as train_again

    Console().print(render(train_again(Path.cwd(), recipe, seeds)))


@app.command("learning-curve")
def learning_curve(
    recipe: Annotated[str, typer.Argument(help="The recipe to train on shares of its training samples.")],
    fractions: Annotated[str, typer.Option(help="The shares, with commas between them.")] = "0.1,0.3,1",
    same_epochs: Annotated[
        bool,
        typer.Option("--same-epochs", help="See a small share no more often than all; by default, as many steps are taken."),
    ] = False,
) -> None:
    """Show how test quality grows with the training samples, for the network and the baseline: is more data worth its cost?"""
    from rich.console import Console

    from trainyard.studies.learning_curve import learning_curve as draw
    from trainyard.studies.learning_curve import parse_fractions, render

    Console().print(render(draw(Path.cwd(), recipe, parse_fractions(fractions), same_epochs=same_epochs)))


@app.command()
def repro(
    targets: Annotated[list[str] | None, typer.Argument(metavar="TARGET...", help="As for `dvc repro`; all, if none.")] = None,
    together: Annotated[
        int | None, typer.Option("--together", "-j", min=1, help="Trainings at a time, instead of what there is room for.")
    ] = None,
) -> None:
    """Do what `dvc repro` does, with the trainings of several recipes side by side where there is room."""
    from trainyard.repro import repro as run

    with study_commands.resumable():
        sys.exit(run(Path.cwd().resolve(), targets or [], together))


@app.command()
def sync(
    here: Annotated[
        bool, typer.Option("--here", help="Also what waits for another address than that to which runs go now.")
    ] = False,
) -> None:
    """Send what waits for the tracking server, and say of runs that were killed that they were."""
    from trainyard.provenance import scratch_root
    from trainyard.recipe import read_settings
    from trainyard.tracking.sync import sync as send

    for line in send(scratch_root(), read_settings(PARAMS)[1], here=here):
        typer.echo(line)


@app.command()
def doctor(
    address: Annotated[str, typer.Option(help="A cluster to ask too; else cluster.address or RAY_ADDRESS, where given.")] = "",
    json: Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")] = False,
) -> None:
    """Look at this machine, this project, and who could reach them; change nothing, and say what to do."""
    from rich.console import Console

    from trainyard.doctor.examine import examine, examine_nodes_of, exit_code
    from trainyard.doctor.nodes import table
    from trainyard.doctor.page import as_json, render
    from trainyard.recipe import read_settings
    from trainyard.training.cluster_config import ClusterConfig, TrackingConfig

    # Of use also where there is no project yet.
    cluster, tracking = read_settings(PARAMS) if PARAMS.exists() else (ClusterConfig(), TrackingConfig())
    report = examine(Path.cwd(), cluster, tracking, address)
    nodes = examine_nodes_of(Path.cwd(), cluster, tracking, address, report)
    if json:
        typer.echo(dumps(as_json(report, nodes.answers if nodes else ()), indent=2, ensure_ascii=False))
    else:
        Console().print(render(report, table(nodes) if nodes and nodes.answers else None))
    sys.exit(exit_code(report))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; all but the default ask for a password.")] = "127.0.0.1",
    name: Annotated[list[str] | None, typer.Option(help="Host name under which browsers reach it; repeat for more.")] = None,
) -> None:
    """Serve the MLflow pages of this project's runs: on this machine only, or with --host behind a password."""
    from trainyard.provenance import scratch_root
    from trainyard.recipe import read_settings
    from trainyard.ui import serve

    serve(scratch_root(), read_settings(PARAMS)[1], host, port, name or ())


intake_commands.register(app)
job_commands.register(app)
origin_commands.register(app)
clean_commands.register(app)
plan_commands.register(app)
reference_commands.register(app)
lesson_commands.register(app)
serving_commands.register(app)
study_commands.register(app)
web_commands.register(app)
phone_commands.register(app)
arrange(app)


def main() -> None:
    """Run a command; a user's error is one headline and an exit code."""
    try:
        app()
    except TrainyardError as error:
        _leave(error)
    except OSError as error:
        from trainyard.stage import OF_THE_DISK, machine_error

        if error.errno not in OF_THE_DISK:
            raise
        _leave(machine_error(error))


def _leave(error: TrainyardError) -> NoReturn:
    typer.echo(mask(f"ERROR: {error}"), err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
