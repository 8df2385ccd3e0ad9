"""Commands that put an exported model to work: predict, serve."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainyard.errors import InputError, IntegrityError

if TYPE_CHECKING:
    from trainyard.serving.predict import Progress, Summary
    from trainyard.serving.predictor import Variant

MODELS = Path("models")
"""Where dvc.yaml has stage `export` write, a folder for each recipe."""
Int8 = Annotated[bool, typer.Option("--int8", help="The quantised model instead of the one in fp32.")]
Address = Annotated[
    str, typer.Option(help="A Ray cluster's head, 10.0.0.1:6379, whose nodes answer; local: a private Ray on this machine.")
]
LOOPBACK = "127.0.0.1"
LONGEST_SECONDS = 86_400
"""That anything may be waited for."""
SAID_EVERY_SECONDS = 10.0
"""Where there is no terminal to draw a bar on."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands: tuple[Callable[..., None], ...] = (predict, serve)
    for command in commands:
        app.command()(command)


def predict(
    recipe: Annotated[str, typer.Argument(help="Whose exported model answers; or the path of a model's folder or file.")],
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Images, or tables (CSV, TSV, JSON lines, Parquet), or folders of them."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet or .csv.")] = Path("predictions.parquet"),
    int8: Int8 = False,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as the machine has cores.")] = 0,
    address: Address = "",
) -> None:
    """Answer to files of any number, without the frameworks of training; what cannot be answered is listed in the file."""
    from trainyard.serving.predict import predict as answer_all
    from trainyard.serving.predictor import Predictor

    if address:
        from trainyard.on_ray.bulk import predict as predict_on_ray
        from trainyard.on_ray.place import Place, project_is_insecure

        place = Place(address=address, insecure=project_is_insecure())
        with _bar() as progress:
            summary = predict_on_ray(
                model_path(recipe), _variant(int8), paths, out, place, threads=max(1, threads), progress=progress
            )
        _tell(summary, out)
        return
    predictor = Predictor.load(model_path(recipe), _variant(int8), threads)
    with _bar() as progress:
        summary = answer_all(predictor, paths, out, progress)
    _tell(summary, out)


def serve(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Whose exported models answer; or paths of them.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free, which is said.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; all but this machine's own ask for a token.")] = LOOPBACK,
    token_file: Annotated[Path | None, typer.Option(help="A file that only you can read, with the token to ask for.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="Host name under which browsers reach it; repeat for more.")] = None,
    int8: Int8 = False,
    threads: Annotated[int, typer.Option(min=0, help="Of one call of the network; 0: as many as there are cores.")] = 0,
    max_body: Annotated[int, typer.Option(min=1, help="Megabytes of one request.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 16_000_000,
    max_batch: Annotated[int, typer.Option(min=1, help="Inputs answered in one call of the network.")] = 32,
    max_wait: Annotated[float, typer.Option(min=0, help="Milliseconds that a call waits for more.")] = 2.0,
    max_waiting: Annotated[int, typer.Option(min=1, help="Inputs that wait; more are refused.")] = 1024,
    timeout: Annotated[float, typer.Option(min=0.1, max=LONGEST_SECONDS, help="Seconds for an answer.")] = 30.0,
    drain: Annotated[
        float, typer.Option(min=0, max=LONGEST_SECONDS, help="Seconds after SIGTERM that requests are still taken.")
    ] = 2.0,
    address: Address = "",
    min_replicas: Annotated[int, typer.Option(min=1, help="With --address: that answer at any time.")] = 1,
    max_replicas: Annotated[int, typer.Option(min=1, help="With --address: that answer at most.")] = 4,
    target_load: Annotated[
        float,
        typer.Option(min=0.1, help="With --address: requests that each replica has at once, on average; beyond, more start."),
    ] = 16.0,
) -> None:
    """Answer requests over HTTP; a model that is exported anew meanwhile takes its place without a request being lost."""
    from dataclasses import replace

    from trainyard.serving.options import Options
    from trainyard.serving.served import Served
    from trainyard.serving.server import read_token
    from trainyard.serving.server import serve as answer_requests
    from trainyard.training.access import is_loopback

    if token_file is None and not is_loopback(host):
        raise IntegrityError(
            f"--host {host}: whoever reaches this machine could ask; name a --token-file, or leave --host out to serve "
            "this machine alone"
        )
    options = Options()
    options = replace(
        options,
        inputs=replace(options.inputs, pixels=max_pixels),
        body_bytes=max_body * 2**20,
        held_bytes=max(options.held_bytes, 2 * max_body * 2**20),
        batch_inputs=max_batch,
        batch_seconds=max_wait / 1000,
        waiting=max_waiting,
        answer_seconds=timeout,
        drain_seconds=drain,
    )
    paths = _by_name(recipes)
    token = None if token_file is None else read_token(token_file)
    if address:
        from trainyard.on_ray.deploy import serve as serve_on_ray
        from trainyard.on_ray.place import Place, project_is_insecure
        from trainyard.on_ray.scaling import Scaling

        scaling = Scaling(min_replicas=min_replicas, max_replicas=max_replicas, target_load=target_load)
        place = Place(address=address, insecure=project_is_insecure(), host=host, port=port)
        serve_on_ray(paths, _variant(int8), options, scaling, place, threads=max(1, threads), token=token, names=name or ())
        return
    models = {key: Served(key, path, _variant(int8), threads) for key, path in paths.items()}
    answer_requests(models, options, host=host, port=port, token=token, names=name or ())


def _by_name(recipes: list[str]) -> dict[str, Path]:
    """Return the paths of models by the names under which they are asked.

    Raises:
        InputError: a model is not there, or another one has its name.
    """
    found: dict[str, Path] = {}
    for recipe in recipes:
        path, name = model_path(recipe), Path(os.path.abspath(recipe)).name
        if name in found and not path.samefile(found[name]):
            mended = "name their folders" if path.is_file() else "rename one of the folders"
            raise InputError(f"{found[name]} and {path}: both would be asked at /models/{name}/predict; {mended}")
        found[name] = path
    return found


def model_path(recipe: str) -> Path:
    """Return the folder of a recipe's exported model, or the path that was given instead of a name.

    Raises:
        InputError: neither is there.
    """
    folder = MODELS / recipe
    if "/" not in recipe and folder.is_dir():
        return folder
    if Path(recipe).exists():
        return Path(recipe)
    known = ", ".join(sorted(found.parent.name for found in MODELS.glob("*/model.onnx"))) or "none yet: run `dvc repro`"
    raise InputError(f"{recipe}: no exported model in {MODELS}/, and no such path; exported are {known}")


def _variant(int8: bool) -> Variant:
    return "int8" if int8 else "fp32"


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show how many inputs are done: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    texts = (TextColumn("{task.completed:,} inputs"), TextColumn("{task.fields[speed]}"))
    began = said = time.monotonic()
    with Bar(SpinnerColumn(), *texts, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, speed="")

        def show(done: int) -> None:
            nonlocal said
            now = time.monotonic()
            bar.update(task, completed=done, speed=f"{done / max(1e-3, now - began):,.0f}/s")
            if not console.is_terminal and now - said >= SAID_EVERY_SECONDS:
                said = now
                typer.echo(f"{done:,} inputs done", err=True)

        yield show


def _tell(summary: Summary, out: Path) -> None:
    """Say what came out.

    Raises:
        InputError: nothing could be answered.
    """
    from trainyard.serving.predict import LISTED

    for line in summary.first:
        typer.echo(f"  {line}", err=True)
    if summary.bad > LISTED:
        typer.echo(f"  and {summary.bad - LISTED:,} more, in column `problem` of {out}", err=True)
    if not summary.answered:
        raise InputError(f"{out}: none of {summary.bad:,} inputs could be answered; why is in its column `problem`")
    bad = f", {summary.bad:,} could not be answered" if summary.bad else ""
    typer.echo(f"{out}: {summary.answered:,} answers{bad}")
    if summary.labels:
        typer.echo("  " + ", ".join(f"{label}: {count:,}" for label, count in summary.labels.most_common(10)))
