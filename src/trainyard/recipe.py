"""A recipe: one named block under `recipes:` in params.yaml, read strictly into the configs of its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import TypeAdapter, ValidationError

from trainyard.data.raw import Kind
from trainyard.data.sources import KINDS, DataConfig
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation import config as evaluation_config
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.gate_config import GateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig, smallest_side
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.unet_config import UNetConfig
from trainyard.params import Params, ParamsError, Problem, nearest
from trainyard.studies.sweep_config import Asked, changed, collect_sweep
from trainyard.tasks.train_config import MOVED, TrainConfig, check_train, misfits
from trainyard.training.cluster_config import ClusterConfig, TrackingConfig

if TYPE_CHECKING:
    from trainyard.models.spec import InputSpec
    from trainyard.models.transfer import Transfer

Family = Literal["cnn", "unet", "lstm"]
ModelConfig = CNNConfig | UNetConfig | LSTMConfig

MODELS: dict[str, Any] = {"cnn": CNNConfig, "unet": UNetConfig, "lstm": LSTMConfig}
"""The config of each family's network."""
FAMILY_KINDS: dict[str, tuple[Kind, ...]] = {
    "cnn": ("image_classification",),
    "unet": ("segmentation",),
    "lstm": ("text_classification", "forecasting"),
}
"""The kinds of data that each family learns from."""
BLOCKS: dict[str, Any] = {"data": DataConfig, "train": TrainConfig, "evaluate": EvaluateConfig, "export": ExportConfig}
"""The blocks that are alike in all families."""
OPTIONAL: dict[str, Any] = {"gate": GateConfig}
"""Those that may be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what one model becomes."""

    name: str
    family: Family
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    gate: GateConfig = field(default_factory=GateConfig)

    @property
    def kind(self) -> Kind:
        """What the family learns from the source."""
        return next(kind for kind in FAMILY_KINDS[self.family] if kind in KINDS[self.data.source])

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which `recipe_from_json` makes an equal recipe."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self))))


def read_recipe(path: Path, name: str) -> Recipe:
    """Read one recipe of a params.yaml.

    Raises:
        ParamsError: there is none of that name, or listing everything that is wrong with it.
    """
    return _read_one(_params_with(path, name), name)


def _params_with(path: Path, name: str) -> Params:
    """Return a params.yaml; a recipe of a name that it has not is the only problem then."""
    params = Params(path)
    if name not in params.block("recipes"):
        params.block("recipes", name)
    return params


def read_all(path: Path) -> tuple[list[Recipe], ClusterConfig, TrackingConfig]:
    """Read a whole params.yaml.

    Raises:
        ParamsError: listing everything that is wrong in the file.
    """
    params = Params(path)
    problems: list[Problem] = []
    for key in params.values:
        if key not in (valid := ("recipes", "cluster", "tracking", "sweep")):
            expected = f"valid here: {', '.join(valid)}{nearest(str(key), valid)}"
            problems.append(Problem(params.line(key), str(key), "no such key", expected))
    names = params.mapping(("recipes",), problems)
    recipes = [_read(params, str(name), problems) for name in names or ()]
    settings = []
    for key, schema in (("cluster", ClusterConfig), ("tracking", TrackingConfig)):
        settings.append(params.collect(schema, (key,), problems) if key in params.values else schema())
    if "sweep" in params.values and names is not None:
        _check_sweeps(params, [recipe for recipe in recipes if recipe is not None], problems)
    if problems:
        raise params.error(problems)
    cluster, tracking = settings
    return cast("list[Recipe]", recipes), cast("ClusterConfig", cluster), cast("TrackingConfig", tracking)


def read_sweep(path: Path, name: str) -> Asked:
    """Read one recipe, and its entry of `sweep:`.

    Raises:
        ParamsError: it has none, or listing everything that is wrong with both.
    """
    params = _params_with(path, name)
    recipe = _read_one(params, name)
    problems: list[Problem] = []
    if name not in (params.values.get("sweep") or {}):
        raise ParamsError(
            f"{path}: has no sweep for {name}; write one below the recipes, such as "
            f"sweep: {{{name}: {{over: {{train.learning_rate: {{log: [1e-4, 1e-1]}}}}, trials: 12}}}} (docs/sweeps.md)"
        )
    config = collect_sweep(params, recipe, _read, problems)
    if config is None:
        raise params.error(problems)
    return Asked(recipe=recipe, config=config, params=params)


def read_changed(asked: Asked, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a trial.

    Raises:
        ParamsError: its values do not go together.
    """
    return _read_one(changed(asked.params, asked.recipe.name, changes), asked.recipe.name)


def _check_sweeps(params: Params, recipes: list[Recipe], problems: list[Problem]) -> None:
    """Add what is wrong in `sweep:` to `problems`."""
    known = [str(name) for name in params.block("recipes")]
    sweeps = params.mapping(("sweep",), problems)
    if sweeps is None:
        return
    for name in sweeps:
        if name not in known:
            expected = f"expected a recipe: {', '.join(known)}{nearest(str(name), known)}"
            problems.append(Problem(params.line("sweep", name), f"sweep.{name}", "is no recipe", expected))
    for recipe in recipes:
        if recipe.name in sweeps:
            collect_sweep(params, recipe, _read, problems)


def read_settings(path: Path) -> tuple[ClusterConfig, TrackingConfig]:
    """Read `cluster:` and `tracking:`, which may be left out."""
    params = Params(path)
    return (
        params.read(ClusterConfig, "cluster") if "cluster" in params.values else ClusterConfig(),
        params.read(TrackingConfig, "tracking") if "tracking" in params.values else TrackingConfig(),
    )


def recipe_from_json(values: dict[str, Any], where: Path) -> Recipe:
    """Return the recipe that `Recipe.to_json` wrote.

    Raises:
        IntegrityError: `where` holds something else.
    """
    try:
        # Recipes of models that were trained before there was an optional block are recipes, too.
        optional = {key: schema for key, schema in OPTIONAL.items() if key in values}
        schemas = {**BLOCKS, **optional, "model": MODELS[values["family"]]}
        blocks = {
            key: TypeAdapter(schema).validate_json(json.dumps(values[key]), strict=True, extra="forbid")
            for key, schema in schemas.items()
        }
    except (KeyError, TypeError, ValidationError) as error:
        raise IntegrityError(f"{where}: is not a recipe of this version ({error}); train it again") from None
    return Recipe(name=values["name"], family=values["family"], **blocks)


def check_data(recipe: Recipe, spec: InputSpec, root: Path) -> Transfer | None:
    """Refuse data that a recipe is not made for, and weights to begin with that its network is not.

    Args:
        recipe: as it is written.
        spec: of its data.
        root: what the path of the weights is relative to.

    Returns:
        What these weights bring; None where the recipe names none.

    Raises:
        InputError: naming what does not fit, or is not there.
        IntegrityError: the weights are others than the recipe states.
    """
    from trainyard.models.spec import check_input

    _check_kind(recipe, spec.kind)
    check_input(recipe.model, spec)
    check_train(recipe.train, spec)
    if (start := recipe.train.start_from) is None:
        return None
    from trainyard.models.transfer import plan_transfer

    return plan_transfer(root / start.weights, start.sha256, recipe.model, spec, freeze=start.freeze)


def _check_kind(recipe: Recipe, kind: Kind) -> None:
    """Refuse data that a family does not learn from, where the source alone did not tell.

    Raises:
        InputError: naming both.
    """
    learned = FAMILY_KINDS[recipe.family]
    if kind not in learned:
        raise InputError(
            f"recipes.{recipe.name}: the data are for {kind}, but family: {recipe.family} learns {' or '.join(learned)}; "
            "change the family, or the data"
        )


def _read_one(params: Params, name: str) -> Recipe:
    """Read one recipe, which alone counts; see `read_recipe`."""
    problems: list[Problem] = []
    recipe = _read(params, name, problems)
    if recipe is None or problems:
        raise params.error(problems)
    return recipe


def _read(params: Params, name: str, problems: list[Problem]) -> Recipe | None:
    """Read one recipe; what is wrong with it is added to `problems`."""
    before = len(problems)
    keys = ("recipes", name)
    block = params.mapping(keys, problems)
    if block is None:
        return None
    problems.extend(_misnamed(params, name))
    wanted = ("family", *BLOCKS, "model")
    valid = (*wanted, *OPTIONAL)
    for key in block:
        if key not in valid:
            expected = f"valid here: {', '.join(valid)}{nearest(str(key), valid)}"
            problems.append(Problem(params.line(*keys, key), f"recipes.{name}.{key}", "no such key", expected))
    for key in wanted:
        if key not in block:
            problems.append(Problem(params.line(*keys), f"recipes.{name}.{key}", "is missing", "add it"))
    data = block.get("data")
    if isinstance(data, dict) and "path" not in data:
        # It has a default for none of the sources: DVC must read it, to see when the raw data change.
        expected = "name the raw data's file or folder; requirements.lock for data that come with the libraries"
        problems.append(Problem(params.line(*keys, "data"), f"recipes.{name}.data.path", "is missing", expected))
    family = block.get("family")
    schemas = {**BLOCKS, **OPTIONAL}
    if isinstance(family, str) and family in MODELS:
        schemas["model"] = MODELS[family]
    elif "family" in block:
        expected = f"expected one of {', '.join(MODELS)}{nearest(str(family), MODELS)}"
        problems.append(Problem(params.line(*keys, "family"), f"recipes.{name}.family", f"found {family!r}", expected))
    parts = {key: params.collect(schema, (*keys, key), problems) for key, schema in schemas.items() if key in block}
    problems[before:] = [_said_elsewhere(problem, f"recipes.{name}.train.") for problem in problems[before:]]
    if len(problems) > before:
        return None
    recipe = Recipe(name=name, family=cast("Family", family), **cast("dict[str, Any]", parts))
    problems.extend(_contradictions(params, recipe))
    return recipe


def _said_elsewhere(problem: Problem, block: str) -> Problem:
    """Return a problem that names the new place of a key of an earlier version."""
    expected = MOVED.get(problem.key.removeprefix(block)) if problem.key.startswith(block) else None
    return replace(problem, expected=expected) if expected else problem


NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
"""A recipe's name is the name of its folders and stages."""
LONGEST_NAME = 100
"""Names of files hold 255 bytes, and a recipe's is a part of some."""


def _misnamed(params: Params, name: str) -> list[Problem]:
    """Return why files cannot be named after a recipe."""
    line = params.line("recipes", name)
    if not NAME_CHARACTERS.issuperset(name) or not name[:1].isalnum():
        return [Problem(line, f"recipes.{name}", "is no name for files", "use letters, digits, '-' and '_'")]
    if len(name) > LONGEST_NAME:
        found = f"is {len(name)} characters long"
        return [Problem(line, f"recipes.{name[:20]}...", found, f"use at most {LONGEST_NAME}")]
    return []


def _contradictions(params: Params, recipe: Recipe) -> list[Problem]:
    """Return what the blocks of a recipe say against each other."""
    at = ("recipes", recipe.name)
    problems = []

    def add(block: str, key: str, found: str, expected: str) -> None:
        problems.append(Problem(params.line(*at, block, *key.split(".")), ".".join((*at, block, key)), found, expected))

    offered, learned = KINDS[recipe.data.source], FAMILY_KINDS[recipe.family]
    if not set(offered) & set(learned):
        sources = [source for source, kinds in KINDS.items() if set(kinds) & set(learned)]
        add(
            "data",
            "source",
            f"'{recipe.data.source}' is for {' or '.join(offered)}, but family: {recipe.family} learns {' or '.join(learned)}",
            f"expected one of {', '.join(sources)}",
        )
    else:
        for key, found, expected in misfits(recipe.train, recipe.kind):
            add("train", key, found, expected)
    classes = getattr(recipe.data, "classes", None) or ()
    for key, found, expected in evaluation_config.misfits(recipe.evaluate, recipe.model, classes):
        add("evaluate", key, found, expected)
    if recipe.train.loss == "cross_entropy_dice" and "segmentation" not in learned:
        add(
            "train",
            "loss",
            f"cross_entropy_dice needs masks, but family is {recipe.family}",
            "use cross_entropy or mse",
        )
    if isinstance(recipe.model, LSTMConfig) and recipe.model.freeze_embedding and getattr(recipe.data, "vectors", None) is None:
        if recipe.kind == "text_classification":
            expected = "name word vectors under data.vectors, or remove it"
            add("model", "freeze_embedding", "would leave the random numbers of words as they are", expected)
        else:
            add("model", "freeze_embedding", f"is of words, but the data are for {recipe.kind}", "remove it")
    crop = recipe.train.augment.crop if recipe.train.augment else None
    if crop and isinstance(recipe.model, CNNConfig) and min(crop) < (side := smallest_side(recipe.model)):
        expected = f"use at least {side} a side, or fewer model.widths"
        add("train", "augment.crop", f"{list(crop)} leaves too few pixels for the network's halvings", expected)
    return problems
