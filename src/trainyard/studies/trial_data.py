"""The packed data of a trial that changes how they are made: prepared once for all trials with the same values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.data.packed import Card, read_card
from trainyard.data.prepare import prepare
from trainyard.errors import InputError
from trainyard.progress import say

if TYPE_CHECKING:
    from trainyard.recipe import Recipe

SAMPLES = ("labels", "text", "text_offsets", "names", "names_offsets", "starts")
"""Arrays that say which samples a split holds, whatever was made of them."""


def data_of(root: Path, folder: Path, own: Recipe, recipe: Recipe, data_dir: Path, card: Card) -> tuple[Path, Card]:
    """Return the packed data of a recipe and their card.

    Args:
        root: the project, in which raw data are found.
        folder: of the sweep, where data are kept.
        own: the recipe as it is, whose data are in `data_dir`, with `card`.
        recipe: that of a trial.
        data_dir: see above.
        card: see above.

    Raises:
        InputError: other samples validate or test than those of the recipe as it is.
    """
    if recipe.data == own.data:
        return data_dir, card
    values = json.dumps(recipe.to_json()["data"], sort_keys=True)
    place = folder / "data" / hashlib.sha256(values.encode()).hexdigest()[:12]
    if not (place / "card.json").is_file():
        say(own.name, "sweep", "prepares data for these values")
        place.parent.mkdir(parents=True, exist_ok=True)
        prepare(own.name, recipe.data, place, root=root)
    found = read_card(place)
    if differing := [split for split in ("val", "test") if _samples(found, split) != _samples(card, split)]:
        raise InputError(
            f"data: with these values, other samples are in {' and '.join(differing)}, so trials cannot be compared; take keys "
            "that decide which samples there are out of the sweep"
        )
    return place, found


def _samples(card: Card, split: str) -> tuple[int, dict[str, list[str]]]:
    """Return how many samples a split has, and the hashes of what says which ones they are."""
    arrays = card.arrays[split]
    return card.samples[split], {name: list(arrays[name]["files"].values()) for name in SAMPLES if name in arrays}
