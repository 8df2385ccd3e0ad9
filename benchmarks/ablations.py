"""Change one option of a recipe at a time, over seeds, and say what each change is worth.

    python benchmarks/ablations.py digits --seeds 5
    python benchmarks/ablations.py trec --folds --set data.val_fraction=0.2 --seeds 5 --data ~/data \\
        --change model.recurrent_dropout=0.3 --change "train.ema={decay: 0.99}" model.variational_dropout=true

A recipe is a file of examples/ by its name, or one of params.yaml, whose data come with the libraries. Without --change, the
options of its family in ABLATIONS are turned over. Scored is the validation split, so that nothing is chosen by what is
tested; --split test is for what was chosen before. Seed for seed, a change is compared with the recipe as it is: the
spread of such differences is smaller than that of scores, and their standard error says whether one is more than noise.

What is trained is in --work and used again, so a run that was cut goes on. A change of `evaluate` alone trains nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from real_data import RAW, ROOT, place_vectors, unpack
from ruamel.yaml import YAML

from trainyard.data.packed import open_split, read_card
from trainyard.data.prepare import prepare
from trainyard.data.raw import Kind
from trainyard.evaluation.forecasts import errors_of, network_forecast
from trainyard.evaluation.metrics import scores, total
from trainyard.evaluation.predictions import predict
from trainyard.evaluation.tiles import segmenter
from trainyard.fingerprint import fingerprint
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe, read_recipe
from trainyard.tasks.primary import LOWER_IS_BETTER
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

Values = dict[str, Any]
MEASURES: dict[Kind, str] = {
    "image_classification": "accuracy",
    "text_classification": "accuracy",
    "segmentation": "mean_iou",
    "forecasting": "mse",
}
"""What is compared, where --measure does not say."""
CHECKPOINT_SECONDS = 120.0
AUGMENT, EMA = "train.augment", "train.ema"
ABLATIONS: dict[str, list[Values]] = {
    "cnn": [
        {EMA: {"decay": 0.99}},
        {"train.label_smoothing": 0.1},
        {"train.label_smoothing": 0.0},
        {f"{AUGMENT}.shift": 1},
        {f"{AUGMENT}.flip": "horizontal"},
        {f"{AUGMENT}.flip": "horizontal", f"{AUGMENT}.alternate_flip": True},
        {"model.whitening": 2},
        {"evaluate.flips": "horizontal"},
        {"train.keep": "last"},
        {"train.schedule": "constant", "train.warmup_fraction": 0.0},
    ],
    "unet": [
        {EMA: {"decay": 0.99}},
        {"model.deep_supervision": 2},
        {"train.loss": "cross_entropy_dice"},
        {"train.loss": "cross_entropy"},
        {f"{AUGMENT}.flip": "both"},
        {f"{AUGMENT}.elastic": 4},
        {"evaluate.flips": "all"},
        {"evaluate.flips": "none"},
        {"model.skip_connections": False},
        {"train.keep": "last"},
    ],
    "lstm": [
        {EMA: {"decay": 0.99}},
        {"model.variational_dropout": True},
        {"model.recurrent_dropout": 0.3},
        {"model.dropout": 0.0, "model.embedding_dropout": 0.0},
        {"train.label_smoothing": 0.0},
        {f"{AUGMENT}.token_dropout": 0.0},
        {"model.bidirectional": False},
        {"model.pooling": "last"},
        {"train.keep": "last"},
    ],
}
"""Options that are turned over one after another; those that a recipe has already are left out."""
ALIASES = {"digits": "cnn", "scenes": "unet", "docstrings": "lstm"}
"""Other names of the recipes in params.yaml, after their data."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe with some changes, and what it reached."""

    change: Values
    metrics: list[dict[str, float]] = field(default_factory=list)
    """By seed."""

    @property
    def name(self) -> str:
        return ", ".join(f"{key}: {shown(value)}" for key, value in self.change.items()) or "as it is"

    def values(self, measure: str) -> list[float]:
        return [found[measure] for found in self.metrics]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a change and the recipe as it is differ, seed for seed."""

    mean: float
    error: float | None
    """Standard error of the mean; None for one seed."""
    better: int
    """Seeds in which the change is better."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="of examples/ or params.yaml")
    parser.add_argument("--change", nargs="+", action="append", metavar="KEY=VALUE", help="one variant; may be repeated")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="in all variants, the recipe as it is too")
    parser.add_argument("--seeds", type=int, default=3, help="0 to SEEDS - 1")
    parser.add_argument("--folds", action="store_true", help="each seed also draws its own validation split")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="what is scored")
    parser.add_argument("--measure", help="such as accuracy, macro_f1, mean_iou, pixel_error, mse")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRAINYARD_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--work", type=Path, default=Path("/tmp/trainyard-ablations"))
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    logging.getLogger("torch").setLevel(logging.ERROR)
    name, block = block_of(arguments.recipe)
    base = changed(block, dict(map(parsed, arguments.set)))
    place_vectors(base, arguments.work, arguments.work / "raw")
    wanted = [dict(map(parsed, changes)) for changes in arguments.change or []] or default_changes(arguments.work, name, base)
    variants = [Variant({}), *map(Variant, wanted)]
    for variant in variants:
        as_recipe(arguments.work, name, changed(base, variant.change))
    measure = arguments.measure or MEASURES[as_recipe(arguments.work, name, base).kind]
    for seed in range(arguments.seeds):
        for variant in variants:
            values = changed(base, variant.change | {"train.seed": seed} | ({"data.seed": seed} if arguments.folds else {}))
            found = score(as_recipe(arguments.work, name, values), arguments)
            variant.metrics.append(found)
            said = f"seed {seed}: {variant.name}: {measure} {found[measure]:.4f}, {found['seconds']:.0f} s"
            print(said, file=sys.stderr, flush=True)
    print(table(variants, measure))
    if arguments.json:
        arguments.json.write_text(json.dumps(report(name, variants, measure, arguments), indent=2) + "\n")


def block_of(name: str) -> tuple[str, Values]:
    """Return a recipe's name and block."""
    yaml = YAML(typ="safe")
    path = ROOT / "examples" / f"{name}.yaml"
    if path.exists():
        return name, yaml.load(path)
    own: Values = yaml.load(ROOT / "params.yaml")["recipes"]
    name = ALIASES.get(name, name)
    if name not in own:
        known = sorted([found.stem for found in path.parent.glob("*.yaml")] + list(own))
        sys.exit(f"{name}: no such recipe; there are {', '.join(known)}")
    return name, own[name]


def parsed(text: str) -> tuple[str, Any]:
    """Return key and value of `KEY=VALUE`, whose value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        sys.exit(f"{text}: write a key in its block and its value, such as train.label_smoothing=0.1")
    return key, YAML(typ="safe").load(value)


def changed(block: Values, changes: Values) -> Values:
    """Return a recipe's block with other values at dotted keys; null takes a key out."""
    block = copy.deepcopy(block)
    for key, value in changes.items():
        *outer, last = key.split(".")
        place = block
        for part in outer:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return block


def default_changes(work: Path, name: str, block: Values) -> list[Values]:
    """Return what is turned over in a recipe of a family, without what it has or does anyway."""
    base = as_recipe(work, name, block)
    return [change for change in ABLATIONS[block["family"]] if as_recipe(work, name, changed(block, change)) != base]


def as_recipe(work: Path, name: str, block: Values) -> Recipe:
    """Return the recipe that a block is, checked as every recipe."""
    text = {"recipes": {name: block}}
    path = work / "recipes" / f"{sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    YAML().dump(text, path)
    return read_recipe(path, name)


def packed(recipe: Recipe, arguments: argparse.Namespace) -> Path:
    """Return the folder with a recipe's packed data, made once."""
    mark = sha256(json.dumps(asdict(recipe.data), sort_keys=True).encode()).hexdigest()[:16]
    folder: Path = arguments.work / "packed" / f"{recipe.name}-{mark}"
    if folder.exists():
        return folder
    root = ROOT
    place = Path(*Path(recipe.data.path).parts[:3])
    if place.name in RAW:
        root = arguments.work / "raw"
        unpack(arguments.data / RAW[place.name], root / place)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prepare(recipe.name, recipe.data, folder, root=root)
    return folder


def score(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, float]:
    """Train a recipe, unless that was done, and return its metrics on the split."""
    data_dir = packed(recipe, arguments)
    card = read_card(data_dir)
    mark = fingerprint(recipe, card.sha256)
    scratch: Path = arguments.work / "trained" / mark
    scratch.mkdir(parents=True, exist_ok=True)
    job = FitJob(
        recipe=recipe,
        data_dir=data_dir,
        scratch_dir=scratch,
        fingerprint=mark,
        checkpoint_seconds=CHECKPOINT_SECONDS,
    )
    history = fit(job).history
    spec = InputSpec.from_card(card)
    network = build_network(recipe.model, spec)
    network.load_state_dict(kept_weights(job.store(), mark, recipe.train.keep)[0])
    network.eval()
    split = open_split(data_dir, arguments.split, card)
    began = time.monotonic()
    if card.kind == "forecasting":
        errors = errors_of(network_forecast(network), split, recipe.evaluate.batch_size)
        found = {"mse": float(errors.squared.mean()), "mae": float(errors.absolute.mean())}
    else:
        scored, batch_size = segmenter(network, recipe.model, recipe.evaluate)
        counts = predict(scored, split, batch_size).counts
        found = {name: float(value) for name, value in scores(card.kind, total(counts)).items()}
    return {**found, "seconds": history[-1]["seconds"], "scoring_seconds": time.monotonic() - began}


def compared(values: list[float], others: list[float], measure: str) -> Difference:
    """Compare a change (first) with the recipe as it is, seed for seed."""
    differences = [value - other for value, other in zip(values, others, strict=True)]
    sign = -1 if measure in LOWER_IS_BETTER else 1
    error = statistics.stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else None
    return Difference(statistics.mean(differences), error, sum(sign * difference > 0 for difference in differences))


def table(variants: list[Variant], measure: str) -> str:
    """Return a table in Markdown, the recipe as it is first."""
    base, *others = variants
    better = "lower" if measure in LOWER_IS_BETTER else "higher"
    lines = [
        f"| change | {measure} ({better} is better): mean (spread) | less the recipe's, by seed | better in | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for variant in (base, *others):
        values = variant.values(measure)
        spread = f" ({statistics.stdev(values):.4f})" if len(values) > 1 else ""
        cells = ["", ""]
        if variant is not base:
            found = compared(values, base.values(measure), measure)
            error = "" if found.error is None else f" ± {found.error:.4f}"
            cells = [f"{found.mean:+.4f}{error}", f"{found.better} of {len(values)}"]
        seconds = statistics.median(variant.values("seconds"))
        lines.append(f"| {variant.name} | {statistics.mean(values):.4f}{spread} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def report(name: str, variants: list[Variant], measure: str, arguments: argparse.Namespace) -> Values:
    """Return all figures as plain values."""
    base = variants[0].values(measure)
    return {
        "recipe": name,
        "set": arguments.set,
        "split": arguments.split,
        "folds": arguments.folds,
        "measure": measure,
        "seeds": arguments.seeds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.processor(), "cpus": os.cpu_count(), "torch": torch.__version__},
        "variants": [
            {
                "change": variant.change,
                "mean": statistics.mean(variant.values(measure)),
                "spread": statistics.stdev(variant.values(measure)) if arguments.seeds > 1 else None,
                "difference": None if place == 0 else asdict(compared(variant.values(measure), base, measure)),
                "metrics": variant.metrics,
            }
            for place, variant in enumerate(variants)
        ],
    }


def shown(value: Any) -> str:
    """Return a value as a recipe writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


if __name__ == "__main__":
    main()
