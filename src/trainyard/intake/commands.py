"""Commands that take data in: new, check, datasets, fetch, verify."""

from __future__ import annotations

import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainyard.errors import InputError, IntegrityError
from trainyard.masking import mask

if TYPE_CHECKING:
    from trainyard.recipe import Recipe

PARAMS = Path("params.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands: tuple[Callable[..., None], ...] = (new, check, datasets, fetch, verify)
    for command in commands:
        app.command()(command)


def new(
    name: Annotated[str, typer.Argument(help="Of the recipe, and of its files.")],
    data: Annotated[Path, typer.Option(help="The folder or table of the data, or a name that `trainyard datasets` lists.")],
    family: Annotated[
        str,
        typer.Option(help="cnn: images by class. unet: images and masks. lstm: a table. Left out: what is there."),
    ] = "",
    like: Annotated[Path | None, typer.Option(help="A file with a recipe to copy, such as examples/mnist.yaml.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Column of texts; several are joined.")] = None,
    label: Annotated[str, typer.Option(help="Column of the texts' classes.")] = "",
    target: Annotated[list[str] | None, typer.Option(help="Column of a series to forecast, one or more.")] = None,
    time: Annotated[str, typer.Option(help="Column of a series' times.")] = "",
    series: Annotated[str, typer.Option(help="Column that tells several series apart.")] = "",
    horizon: Annotated[int, typer.Option(min=0, help="Steps to forecast.")] = 0,
    context: Annotated[int, typer.Option(min=0, help="Steps to forecast from.")] = 0,
) -> None:
    """Look at data and add a recipe for them to params.yaml. What is left out is guessed, and the reason written beside it."""
    from trainyard.data.catalogue import names, recipe_text
    from trainyard.intake.columns import Named
    from trainyard.intake.suggest import suggest
    from trainyard.recipe_text import add_recipe, copied

    named = Named(
        text=tuple(text or ()),
        label=label,
        target=tuple(target or ()),
        time=time,
        series=series,
        horizon=horizon,
        context=context,
    )
    shown = data.relative_to(Path.cwd()) if data.is_absolute() and data.is_relative_to(Path.cwd()) else data
    published = str(data) in names(Path.cwd()) and not data.exists()
    if Path.cwd().is_relative_to(data.resolve()):
        raise InputError(
            f"--data {data}: holds the project itself; name the folder or table of the data, such as data/raw/{name}"
        )
    if (published or like is not None) and (given := named.given()):
        raise InputError(f"{', '.join(given)}: is to look at data with; {like or data} comes with its recipe: change that")
    if like is not None:
        block = copied(like, name, str(shown))
    elif published:
        block = recipe_text(Path.cwd(), name, str(data), family)
    else:
        block = suggest(name, family, data, str(shown), named)
    add_recipe(PARAMS, name, block)
    typer.echo(block)
    typer.echo(f"Added to {PARAMS}. Next: trainyard check {name}, then: dvc repro export@{name}")


def check(
    recipe: Annotated[str, typer.Argument(help="One recipe; all of them where it is left out.")] = "",
    json: Annotated[
        bool, typer.Option("--json", help="For programs: a JSON document for one recipe, a list of them for all.")
    ] = False,
) -> None:
    """Read params.yaml, and the data that recipes bring, and say everything that is wrong with them."""
    recipes = _asked(recipe)
    if json:
        from trainyard.intake.check import as_json

        results = [as_json(found, Path.cwd(), _say) for found in recipes]
        documents = [document for document, _ in results]
        typer.echo(dumps(documents[0] if recipe else documents, indent=2, ensure_ascii=False))
        sys.exit(next((code for _, code in results if code), 0))
    from trainyard.data.sources import EMBEDDED
    from trainyard.evaluation.summary import epochs

    code = 0
    for found in recipes:
        typer.echo(f"{found.name}: {found.family} on {found.data.source}, {epochs(found.train.epochs)}")
        try:
            if found.data.path != EMBEDDED:
                _check_data(found)
        except (InputError, IntegrityError) as error:
            typer.echo(mask(f"ERROR: {error}"), err=True)
            code = code or error.exit_code
    if code:
        sys.exit(code)
    if recipe:
        typer.echo(f"Next: dvc repro export@{recipe}; how long it would take: trainyard plan {recipe}")
    else:
        typer.echo(f"{PARAMS}: no errors")


def _check_data(recipe: Recipe) -> None:
    """Say what is found in a recipe's own data."""
    from trainyard.data.check import check as check_data
    from trainyard.data.problems import listed
    from trainyard.intake.check import check_fit

    checked = check_data(recipe.data, Path.cwd(), _say)
    for warning in listed(checked.warnings):
        typer.echo(f"  warning: {warning}")
    check_fit(recipe, checked, Path.cwd())
    counts = ", ".join(f"{count:,} {split}" for split, count in checked.samples.items())
    dropped = checked.duplicates_dropped
    equal = "1 more was left out, which equals one" if dropped == 1 else f"{dropped:,} more were left out, which equal some"
    equal = f"; {equal} of them" if dropped else ""
    typer.echo(f"  data: {counts} samples, no errors{equal}")


def datasets() -> None:
    """List the published data sets that can be fetched by name."""
    from trainyard.data.catalogue import FOLDER, lines
    from trainyard.data.fetch import downloads_folder
    from trainyard.terminal import filled

    downloads = downloads_folder()
    found = lines(Path.cwd(), downloads)
    if not found:
        raise InputError(f"{FOLDER}: no data sets are listed there; run this in the project's folder")
    for name, size, here, licence, about in found:
        typer.echo(f"{name:<16} {size:>9}  fetched: {here:<3}  {licence}")
        typer.echo(filled(about, 17))
    typer.echo(f"Fetched ones are in {downloads}. A recipe for one: trainyard new NAME --data mnist")


def fetch(
    name: Annotated[str, typer.Argument(help="One that `trainyard datasets` lists, or the path of a descriptor.")],
) -> None:
    """Fetch, verify and unpack a published data set, and do nothing else."""
    from trainyard.data.catalogue import entry
    from trainyard.data.fetch import downloads_folder
    from trainyard.data.fetch import fetch as fetch_all

    descriptor = entry(Path.cwd(), name)
    fetched = fetch_all(descriptor, downloads_folder(), progress=_say)
    typer.echo(f"{descriptor.name}: whole and as published, in {fetched.root / fetched.path}")
    typer.echo(f"licence: {descriptor.licence.name}, {descriptor.licence.url}")
    typer.echo(f"Next, a recipe for it: trainyard new NAME --data {name}")


def verify(
    recipe: Annotated[str, typer.Argument(help="One recipe; all of them where it is left out.")] = "",
    cache: Annotated[
        bool, typer.Option("--cache", help="What dvc.lock names in DVC's cache, instead of the packed data.")
    ] = False,
) -> None:
    """Hash the packed data sets anew and compare them with their cards; the first damaged file ends it with exit code 5."""
    if cache:
        from trainyard.dvc_cache import verify_cache

        typer.echo(verify_cache(Path.cwd()))
        return
    from trainyard.data.packed import hashes, read_card
    from trainyard.data.packed import verify as verify_files

    for found in _asked(recipe):
        folder = Path("data", "prepared", found.name)
        if not folder.is_dir():
            typer.echo(f"{found.name}: not prepared yet; dvc repro prepare@{found.name}")
            continue
        card = read_card(folder)
        verify_files(folder, card)
        counts = ", ".join(f"{count:,} {split}" for split, count in card.samples.items())
        typer.echo(f"{found.name}: OK, {len(hashes(card)):,} files as they were packed, {counts} samples")


def _asked(recipe: str) -> list[Recipe]:
    """Return the recipe of a name, or all of them where it is empty."""
    from trainyard.recipe import read_all, read_recipe

    return [read_recipe(PARAMS, recipe)] if recipe else read_all(PARAMS)[0]


def _say(text: str) -> None:
    typer.echo(f"  {text}", err=True)
