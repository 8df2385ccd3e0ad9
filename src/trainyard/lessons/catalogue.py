"""Which lessons there are, and what each of their modules brings. A lesson is a module, and a YAML of the same name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.params import nearest
from trainyard.recipe import Recipe, read_recipe

LESSONS: dict[str, tuple[int, str]] = {
    "layers": (1, "A network is layers, and each of them tells classes apart better than the one before"),
    "feedback-loop": (2, "Learning is a loop of prediction, loss, gradient and update; the gradient is checked by hand"),
    "initialisation": (3, "First weights decide whether signal and gradient reach the far end of a deep network"),
    "activation": (4, "Without activations between them, many layers are one"),
    "cost": (5, "Cross-entropy still pushes where a network is sure and wrong; the squared error does not"),
    "batches": (6, "Single samples, mini-batches, the whole split: noise against the cost of a step"),
    "learning-rate": (7, "Too small a learning rate gets nowhere, too large a one too; one that falls settles"),
    "dropout": (8, "A network learns few samples by heart; dropout makes it harder"),
    "depth": (9, "Of equally many parameters, more layers see farther and learn more, up to a depth"),
    "data": (10, "Both kinds of model gain from more data; the deep one ends ahead"),
    "tuning": (11, "A sweep: the learning rate matters most, and chance tries more values of it than a grid"),
    "shift": (12, "Convolutions know a moved digit, dense layers do not; pooling costs some of that"),
    "receptive-field": (13, "What a place of a feature map sees of the image, computed and measured"),
    "unet": (14, "The way down of a U-Net sees what is there; the skip connections bring back where"),
    "memory": (15, "An LSTM passes on over many steps what a plain recurrent network has lost"),
    "residual": (16, "Residual connections let deep networks learn that otherwise do not"),
    "deployment": (17, "A model gives the same answers elsewhere: another runtime, a server, a phone"),
}
"""By name: its number, and what it says in one line."""
Recipes = Mapping[str, Recipe]
"""A lesson's recipes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers to show: each row has a value under each header, or under the first ones."""

    headers: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]


class Lesson(Protocol):
    """What the module of a lesson holds."""

    CLAIM: str
    """What is claimed, and by whom."""
    CHANGE: str
    """Which number to change, and what is then seen."""

    def measure(self, recipes: Recipes, root: Path) -> Any:
        """Train and look; return a frozen dataclass of numbers."""

    def table(self, finding: Any) -> Table:
        """Return the numbers to show."""

    def holds(self, finding: Any) -> bool:
        """Return whether the claim is true of what was measured."""

    def draw(self, finding: Any, path: Path) -> Path:
        """Draw what was measured."""


def known(name: str) -> str:
    """Return the name of a lesson, given by name or by number.

    Raises:
        InputError: there is none.
    """
    numbers = {str(number): found for found, (number, _) in LESSONS.items()}
    found = numbers.get(name, name)
    if found not in LESSONS:
        raise InputError(f"{name}: no such lesson{nearest(name, LESSONS)}; `trainyard lessons` lists them")
    return found


def load(name: str) -> Lesson:
    """Import a lesson's module."""
    return cast("Lesson", import_module(f"trainyard.lessons.{name.replace('-', '_')}"))


def recipe_file(name: str) -> Path:
    """Return the file of a lesson's recipes."""
    return Path(__file__).with_name(f"{name.replace('-', '_')}.yaml")


def recipes_of(name: str, folder: Path, seed: int, changes: Iterable[str] = ()) -> dict[str, Recipe]:
    """Return a lesson's recipes with a seed and changes, as they stand in the params.yaml that is written to `folder`.

    Args:
        name: of the lesson.
        folder: of its params.yaml.
        seed: of the training of each recipe.
        changes: KEY=VALUE for all recipes, such as train.learning_rate=0.1, or RECIPE.KEY=VALUE for one.

    Raises:
        InputError: a change is none, or listing what is wrong with a recipe.
    """
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(recipe_file(name))
    blocks: dict[str, Any] = values["recipes"]
    for change in (f"train.seed={seed}", *changes):
        key, equals, text = change.partition("=")
        first, _, rest = key.partition(".")
        if not equals or not rest:
            raise InputError(f"--set {change}: sets nothing; expected KEY=VALUE, such as train.learning_rate=0.1")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise InputError(f"--set {change}: {text!r} is no YAML value; quote it as in params.yaml") from None
        chosen, keys = ([first], rest) if first in blocks else (list(blocks), key)
        for recipe in chosen:
            _put(blocks[recipe], keys.split("."), value)
    path = folder / "params.yaml"
    # JSON is YAML: what is read again is what was read, numbers and words alike.
    write_whole(path, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())
    return {recipe: read_recipe(path, recipe) for recipe in blocks}


def varied(recipe: Recipe, key: str, value: Any) -> Recipe:
    """Return a recipe with another value at a dotted key, such as model.initialisation."""
    block, _, name = key.partition(".")
    changed: Any = replace(getattr(recipe, block), **{name: value})
    changes: dict[str, Any] = {block: changed}
    return replace(recipe, **changes)


def as_json(finding: Any) -> str:
    """Return what was measured as a JSON document."""
    return json.dumps(asdict(finding), indent=2)


def _put(block: dict[str, Any], keys: list[str], value: Any) -> None:
    *folders, last = keys
    for folder in folders:
        inner = block.setdefault(folder, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {'.'.join(keys)}: {folder} is {inner!r}, which holds no keys; name one that does")
        block = inner
    block[last] = value
