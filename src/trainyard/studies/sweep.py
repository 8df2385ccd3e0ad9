"""`trainyard sweep`: values of a recipe that its validation split likes best, found by trials.

Each trial trains the recipe with other values in one process, on one GPU or a share of the processors. What it has reached is
on the disk before anything is concluded from it, so a sweep that is stopped or killed goes on where it was: trials that have
ended count, those under way continue from their checkpoints. No trial sees the test split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import IntegrityError
from trainyard.files import write_whole
from trainyard.progress import say
from trainyard.recipe import check_data, read_sweep
from trainyard.studies.parent import parent_run, prepared
from trainyard.studies.sweep_config import Asked, with_trials
from trainyard.studies.sweeper import Sweeper
from trainyard.studies.trials import Book, Swept
from trainyard.tasks.primary import PRIMARY

if TYPE_CHECKING:
    from trainyard.data.packed import Card


def sweep(root: Path, name: str, *, trials: int | None = None, again: bool = False) -> Swept:
    """Run the trials that a recipe's entry of `sweep:` asks for, and write reports/<recipe>/sweep/.

    Args:
        root: the project.
        name: of the recipe.
        trials: instead of the number in params.yaml.
        again: forget the trials that there are.

    Raises:
        ParamsError: params.yaml cannot be used.
        InputError: the data were not prepared, or no trial could be trained.
        Interrupted: it was told to end, or processes were lost too often; the same command continues.
        TrainyardError: what trials met that is no fault of their values.
    """
    from trainyard.data.packed import read_card, verify
    from trainyard.models.spec import InputSpec
    from trainyard.training.lease import held
    from trainyard.training.store import open_store

    asked = read_sweep(root / "params.yaml", name)
    asked = replace(asked, config=with_trials(asked.config, trials))
    recipe, data_dir = prepared(root, name)
    card = read_card(data_dir)
    verify(data_dir, card)
    check_data(recipe, InputSpec.from_card(card), root)
    folder = root / ".trainyard" / "studies" / name / "sweep" / identity(asked, card)
    folder.mkdir(parents=True, exist_ok=True)
    with held(open_store(folder), lambda text: say(name, "sweep", text)):
        if again:
            with suppress(IntegrityError):  # what cannot be read is forgotten, too
                before = Book.read(folder)
                Sweeper(root, asked, data_dir, card, before).free(list(before.trials.values()))
            forget(folder)
        sweeper = Sweeper(root, asked, data_dir, card, Book.read(folder))
        over, done = sweeper.is_over(), folder / "done"
        if over and done.is_file():
            say(name, "sweep", f"all {len(sweeper.book.trials)} trials were done before; --again forgets them")
            return sweeper.result()
        done.unlink(missing_ok=True)
        tags = {"trainyard.sweep": folder.name, "trainyard.searcher": asked.config.searcher}
        with parent_run(root, recipe, "sweep", folder, tags, once=True) as tracking:
            if not over:
                sweeper.run(tracking)
            swept = sweeper.result()
            tracking.metrics(
                {f"best/{swept.metric}": swept.scores[swept.best], "trials": len(swept.trials), "best/trial": swept.best}
            )
            tracking.tag({f"best.{key}": json.dumps(value) for key, value in swept.values.items()})
            tracking.artifacts(sorted(path for path in swept.folder.iterdir() if path.is_file()), "sweep")
            sweeper.wait_until_sent(tracking)
        write_whole(done, b"")
    return swept


def forget(folder: Path) -> None:
    """Delete all of a sweep but the note of who holds it."""
    from trainyard.training.lease import FILE

    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != FILE:
            path.unlink()


def identity(asked: Asked, card: Card) -> str:
    """Return the name of a sweep: trials of one name can be compared. How many and how chosen is no part of it."""
    from trainyard.fingerprint import fingerprint

    config = asked.config
    metric = config.metric or PRIMARY[asked.recipe.kind]
    parts = [fingerprint(asked.recipe, card.sha256), sorted((key, asdict(found)) for key, found in config.over.items()), metric]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
