"""Every block of params.yaml, and the config that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from trainyard.data.sources import KINDS, DataConfig
from trainyard.errors import InputError
from trainyard.params import nearest
from trainyard.recipe import BLOCKS, FAMILY_KINDS, MODELS, OPTIONAL
from trainyard.reference.keys import Key, keys_of
from trainyard.studies.sweep_config import SweepConfig
from trainyard.training.cluster_config import ClusterConfig, TrackingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A mapping in params.yaml with keys of its own."""

    place: str
    """Dotted: `train`, below a recipe; `cluster`, below nothing."""
    where: str
    """Which of several it is: a source, a family; empty where there is one."""
    config: type

    @property
    def keys(self) -> list[Key]:
        """All of them, nested ones too."""
        found = list(keys_of(self.config))
        # recipe.py has the path given for all sources: DVC watches it.
        return [replace(key, default=None) if (self.place, key.path) == ("data", "path") else key for key in found]


def sources() -> dict[str, type]:
    """Return the config of each source of data."""
    union: Any = get_args(DataConfig)[0]
    found = {get_args(get_type_hints(config)["source"])[0]: config for config in get_args(union)}
    return {source: found[source] for source in KINDS}


def blocks() -> Iterator[Block]:
    """Yield all blocks: those of a recipe, in the order in which they are written, then those beside `recipes:`."""
    for source, config in sources().items():
        yield Block(place="data", where=f"source: {source}, for {' or '.join(KINDS[source])}", config=config)
    for family, config in MODELS.items():
        yield Block(place="model", where=f"family: {family}, for {' or '.join(FAMILY_KINDS[family])}", config=config)
    for place, config in {**BLOCKS, **OPTIONAL}.items():
        if place != "data":
            yield Block(place=place, where="", config=config)
    for place, config in (("cluster", ClusterConfig), ("tracking", TrackingConfig), ("sweep.<recipe>", SweepConfig)):
        yield Block(place=place, where="", config=config)


def find(asked: str) -> list[tuple[Block, list[Key]]]:
    """Return the blocks with the keys that a person asks for: `train`, `train.loss`, `dropout`, `recipes.cnn.model.dropout`.

    Raises:
        InputError: there is no such key, with the nearest one.
    """
    parts = asked.split(".")
    if parts[0] == "recipes":
        parts = parts[2:]
    elif parts[0] == "sweep":
        parts[1:2] = ["<recipe>"]
    path = ".".join(parts)
    found = []
    for block in blocks():
        keys = [key for key in block.keys if _asks(path, block.place, key)]
        if keys:
            found.append((block, keys))
    if not found:
        known = [f"{block.place}.{key.path}" for block in blocks() for key in block.keys]
        raise InputError(f"{asked}: no such key{nearest(path, known) or ';'} `trainyard explain` lists the blocks")
    return found


def _asks(path: str, place: str, key: Key) -> bool:
    name = f"{place}.{key.path}"
    return name == path or name.startswith(f"{path}.") or key.path.rpartition(".")[2] == path
