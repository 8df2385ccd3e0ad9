"""All that takes room in a project, in one list: what can go, and what stays and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainyard.clean.caches import dvc_cache, node_cache
from trainyard.clean.runs import deleted_runs
from trainyard.clean.scratch import checkpoints, downloads, leftovers
from trainyard.clean.things import DAY, Thing
from trainyard.data.descriptor import is_descriptor, read_descriptor
from trainyard.data.packed import read_card
from trainyard.errors import IntegrityError, TrainyardError
from trainyard.evaluation.champion import read_champion
from trainyard.fingerprint import fingerprint
from trainyard.recipe import Recipe, read_all

KINDS = ("checkpoints", "studies", "preparing", "reproductions", "downloads", "node cache", "deleted runs", "DVC cache")
"""In the order in which they are shown."""


def things(root: Path, uri: str, days: float) -> list[Thing]:
    """Return what takes room.

    Args:
        root: the project.
        uri: of the tracking store.
        days: that what is of no use must lie there, unless it is recorded elsewhere.

    Raises:
        ParamsError: params.yaml cannot be read, so that nobody can say what is in use.
        IntegrityError: dvc.lock or a champion cannot.
    """
    recipes = read_all(root / "params.yaml")[0]
    older = days * DAY
    champions = champion_marks(root)
    states, data = _states(root, recipes)
    found: list[Thing] = []
    weights = {start.sha256 for recipe in recipes if (start := recipe.train.start_from) is not None and start.sha256}
    for some in (
        checkpoints(root, states, champions, older),
        leftovers(root, older),
        downloads(root, _published(root, recipes), older),
        node_cache(data | weights, older),
        deleted_runs(root, uri, champions, older),
        dvc_cache(root, champions, older),
    ):
        found += some
    return sorted(found, key=lambda thing: (KINDS.index(thing.kind), thing.remove is None, -thing.bytes))


def remove(found: list[Thing]) -> Iterator[tuple[Thing, str]]:
    """Delete what can go, and yield each with a word on what became of it."""
    for thing in found:
        if thing.remove is None:
            continue
        try:
            yield thing, "deleted" if thing.remove() else "has come into use, and stays"
        except (TrainyardError, OSError) as error:
            yield thing, f"stays: {error}"


def champion_marks(root: Path) -> set[str]:
    """Return the fingerprints of all champions.

    Raises:
        IntegrityError: one cannot be read, so that nobody can say what it refers to.
    """
    folders = [path.parent for path in (root / "champions").glob("*/champion.json")]
    return {champion[0].fingerprint for folder in folders if (champion := read_champion(folder)) is not None}


def _states(root: Path, recipes: list[Recipe]) -> tuple[dict[str, str], set[str]]:
    """Return the fingerprint of each recipe as it is now, and the hashes of their data, where they are prepared."""
    states, data = {}, set()
    for recipe in recipes:
        try:
            card = read_card(root / "data" / "prepared" / recipe.name)
        except IntegrityError:
            continue
        states[recipe.name] = fingerprint(recipe, card.sha256)
        data.add(card.sha256)
    return states, data


def _published(root: Path, recipes: list[Recipe]) -> set[str]:
    """Return the names of the published data that recipes are about."""
    paths = [root / recipe.data.path for recipe in recipes if is_descriptor(recipe.data.path)]
    return {read_descriptor(path).name for path in paths if path.is_file()}
