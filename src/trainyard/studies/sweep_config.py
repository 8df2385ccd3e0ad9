"""Block `sweep` of params.yaml: which values of a recipe are tried, how many of them, and how they are chosen.

It stands beside `recipes:`, one entry a recipe, so that it is part of no stage: changing it runs nothing again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from trainyard.params import Count, Params, Positive, Problem, Seed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainyard.recipe import Recipe

    Reread = Callable[[Params, str, list[Problem]], Recipe | None]

BLOCKS = ("data", "model", "train")
"""What a trial may change: all that decides what is trained."""
FIXED = frozenset(
    f"data.{name}" for name in ("source", "path", "seed", "val_fraction", "test_fraction", "split_by", "train", "val", "test")
)
"""Keys that decide which samples validate and test: trials with other ones could not be compared."""
EXAMPLE = "such as {uniform: [0, 0.5]}, {log: [1e-4, 1e-1]}, {integer: [1, 4]} or {choice: [16, 32]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that one key may take; exactly one of the four."""

    uniform: tuple[float, float] | None = None
    """From, to: every number between is as likely as another."""
    log: tuple[float, float] | None = None
    """From, to: every order of magnitude is as likely as another, for learning rates and the like."""
    integer: tuple[int, int] | None = None
    """From, to: whole numbers, both ends included."""
    choice: tuple[Any, ...] | None = None
    """One of these."""

    def __post_init__(self) -> None:
        """Refuse what is no range."""
        if len(given := [name for name in ("uniform", "log", "integer", "choice") if getattr(self, name) is not None]) != 1:
            raise ValueError(f"found {' and '.join(given) or 'none'} of uniform, log, integer, choice; write one, {EXAMPLE}")
        if self.choice is not None:
            if len({repr(value) for value in self.choice}) != len(self.choice) or len(self.choice) < 2:
                raise ValueError(f"choice: found {list(self.choice)}; expected two values or more, each once")
            return
        low, high = self.ends
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{given[0]}: found [{low:g}, {high:g}]; expected [lowest, highest], finite, the lower one first")
        if self.log is not None and low <= 0:
            raise ValueError(f"log: found [{low:g}, {high:g}], and nothing below 0 has a logarithm; expected both above 0")

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest number."""
        found = self.uniform or self.log or self.integer
        if found is None:
            raise TypeError("a choice has no ends")
        return found

    @property
    def values(self) -> tuple[Any, ...] | None:
        """All of them, in order; None where there are infinitely many."""
        if self.integer is not None:
            return tuple(range(self.integer[0], self.integer[1] + 1))
        return self.choice

    def holds(self, value: Any) -> bool:
        """Say whether a value is one of these."""
        if self.choice is not None:
            return any(_same(value, other) for other in self.choice)
        number = isinstance(value, int if self.integer else int | float) and not isinstance(value, bool)
        return number and self.ends[0] <= value <= self.ends[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """The trials of a recipe. The validation split chooses among them; none of them sees the test split."""

    over: dict[str, Range]
    """Dotted key in the recipe's data, model or train -> its range: `train.learning_rate: {log: [1e-4, 1e-1]}`."""
    trials: Count | None = None
    """How many; the first is the recipe as it is, where its values are within the ranges. None: all of a grid, else 20."""
    seconds: Positive | None = None
    """After which no trial begins, earlier attempts at the same sweep included. None: no limit."""
    concurrent: Count | Literal["auto"] = "auto"
    """Trials at a time. auto: one a GPU, else one for every `cluster.cpus_per_worker` processors."""
    metric: str | None = None
    """Of the validation split, without `val/`: loss, accuracy, ... None: the recipe's primary one."""
    searcher: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: where good trials were (Bergstra 2011). random: anywhere. grid: each combination, in order; without ranges that
    have infinitely many values."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha: ends a trial that is worse than the best ones were after as many epochs (Li 2018, arXiv:1810.05934)."""
    grace_epochs: Count = 3
    """Of asha: so many epochs each trial gets."""
    keep_one_in: Count = 3
    """Of asha: at each of its comparisons, after grace_epochs times 1, 3, 9, ..., one trial in so many goes on."""
    seed: Seed = 0
    """Of the searcher."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not self.over:
            raise ValueError(f"over: names no key; write one, such as train.learning_rate: {EXAMPLE.removeprefix('such as ')}")
        if self.searcher == "grid" and (endless := [key for key, found in self.over.items() if found.values is None]):
            raise ValueError(
                f"searcher: grid tries all values, and {', '.join(endless)} has infinitely many; write them as choice: [...]"
            )
        if self.scheduler == "asha" and self.keep_one_in < 2:
            raise ValueError(f"keep_one_in: {self.keep_one_in} ends no trial; use 2 or more, or scheduler: none")

    @property
    def combinations(self) -> int | None:
        """How many different trials there can be; None where there are infinitely many."""
        sizes = [found.values for found in self.over.values()]
        return None if None in sizes else math.prod(len(values) for values in sizes if values is not None)

    @property
    def most(self) -> int:
        """How many trials there will be at most."""
        wanted = self.trials or (None if self.searcher == "grid" else 20)
        return min(number for number in (wanted, self.combinations) if number is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a sweep changes, and among what."""

    recipe: Recipe
    config: SweepConfig
    params: Params = field(compare=False)


def collect_sweep(params: Params, recipe: Recipe, reread: Reread, problems: list[Problem]) -> SweepConfig | None:
    """Return the sweep of a recipe, or None after adding what is wrong with it to `problems`.

    Args:
        params: the whole file.
        recipe: the recipe as it is.
        reread: reads a recipe of other params.
        problems: is added to.
    """
    before, keys = len(problems), ("sweep", recipe.name)
    config = params.collect(SweepConfig, keys, problems)
    if config is None:
        return None
    for key, found in config.over.items():
        problems.extend(_problems(params, recipe, key, found, reread))
    metric, known = config.metric, METRICS[recipe.kind]
    if metric is not None and metric not in known:
        expected = f"expected one of {', '.join(known)}{nearest(metric, known)}"
        problems.append(Problem(params.line(*keys, "metric"), ".".join((*keys, "metric")), f"found {metric!r}", expected))
    return config if len(problems) == before else None


METRICS = {
    "image_classification": ("accuracy", "macro_f1", "loss"),
    "text_classification": ("macro_f1", "accuracy", "loss"),
    "segmentation": ("mean_iou", "dice", "pixel_accuracy", "loss"),
    "forecasting": ("mse", "mae", "loss"),
}
"""What is measured on the validation split after each epoch, by kind of data."""


def changed(params: Params, name: str, changes: Mapping[str, Any]) -> Params:
    """Return params in which a recipe has other values, by dotted key; their lines stay those of the file."""
    other = copy.copy(params)
    other.values = copy.deepcopy(params.values)
    for key, value in changes.items():
        *folders, last = key.split(".")
        place = other.values["recipes"][name]
        for folder in folders:
            if not isinstance(place.get(folder), dict):
                place[folder] = {}
            place = place[folder]
        place[last] = copy.deepcopy(value)
    return other


def own_values(recipe: Recipe, config: SweepConfig) -> dict[str, Any] | None:
    """Return the values that a recipe has now, by dotted key; None where one of them is outside its range."""
    values: dict[str, Any] = {}
    for key, found in config.over.items():
        place: Any = recipe.to_json()
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        if not found.holds(place):
            return None
        values[key] = place
    return values


def _problems(params: Params, recipe: Recipe, key: str, found: Range, reread: Reread) -> list[Problem]:
    """Return what is wrong with one range: the key, or values that the recipe could not have."""
    line = params.line("sweep", recipe.name, "over", key)
    name = f"sweep.{recipe.name}.over.{key}"
    block, _, rest = key.partition(".")
    if block not in BLOCKS or not rest:
        expected = f"expected a key within {', '.join(BLOCKS)}, such as train.learning_rate{nearest(block, BLOCKS)}"
        return [Problem(line, name, "is no key that a trial may change", expected)]
    if key in FIXED:
        return [Problem(line, name, "decides which samples validate and test", "leave it out: trials could not be compared")]
    for value in found.ends if found.choice is None else found.choice:
        wrong: list[Problem] = []
        reread(changed(params, recipe.name, {key: value}), recipe.name, wrong)
        if wrong:
            place = f"recipes.{recipe.name}."
            said = [problem for problem in wrong if problem.key == place + key] or wrong
            what = said[0]
            if what.found == "no such key":
                return [Problem(line, name, what.found, what.expected)]
            about = "" if what.key == place + key else f"{what.key.removeprefix(place)}: "
            return [Problem(line, name, f"the value {value!r} cannot be: {about}{what.found}", what.expected)]
    return []


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def with_trials(config: SweepConfig, trials: int | None) -> SweepConfig:
    """Return a sweep of another number of trials."""
    return config if trials is None else replace(config, trials=trials)
