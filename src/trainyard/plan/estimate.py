"""What the stages that run will take: from what they took the last time, or from a short calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard import timings
from trainyard.data.packed import Card, read_card
from trainyard.errors import IntegrityError
from trainyard.plan.calibrate import Measured, calibrate
from trainyard.plan.steps import Step
from trainyard.recipe import Recipe
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.room import shared

FREE = frozenset(
    {
        "epochs",
        "learning_rate",
        "weight_decay",
        "seed",
        "schedule",
        "warmup_fraction",
        "momentum",
        "early_stopping_patience",
        "keep",
    }
)
"""Parameters of a training on which the time of a step does not depend."""
START_SECONDS = 15.0
"""Interpreter, imports, Ray and tracking around a training that this machine has not run before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a stage will take."""

    seconds: float | None
    bytes: int | None
    """Of its largest process."""
    gpu_bytes: int | None = None
    how: str
    """Where the figures come from; why there are none."""


Calibrate = Callable[[Path, str, Path, int, int, float], Measured | str]


def estimate(
    root: Path,
    step: Step,
    recipe: Recipe,
    cluster: ClusterConfig,
    workers: int,
    seconds: float,
    calibrated: Calibrate = calibrate,
) -> Estimate:
    """Return what a stage that runs will take.

    Args:
        root: the project.
        step: that runs.
        recipe: as it is now.
        cluster: where it runs.
        workers: how many train; 0 in one process.
        seconds: to calibrate for; 0 to do without.
        calibrated: measures some steps.
    """
    last = timings.read(root, recipe.name).get(step.stage)
    if step.stage != "train":
        if last is None:
            return Estimate(seconds=None, bytes=None, how="has not run here yet")
        return Estimate(seconds=last["seconds"] + last["around"], bytes=int(last["bytes"]), how="as the last time here")
    if last is not None and last.get("workers") == workers and _as_before(root, recipe, last):
        per_epoch = last["seconds"] / last["epochs"]
        return Estimate(
            seconds=per_epoch * recipe.train.epochs + last["around"],
            bytes=last.get("worker_bytes"),
            gpu_bytes=last.get("worker_gpu_bytes"),
            how=f"{per_epoch:.2f} s an epoch, as the last time here, for {_epochs(recipe)}",
        )
    if not seconds:
        return Estimate(seconds=None, bytes=None, how="has not run here yet")
    data_dir = root / "data" / "prepared" / recipe.name
    try:
        card = read_card(data_dir)
    except IntegrityError:
        return Estimate(seconds=None, bytes=None, how=f"needs its data first: dvc repro prepare@{recipe.name}")
    found = calibrated(root, recipe.name, data_dir, workers, shared(cluster, workers).threads, seconds)
    if isinstance(found, str):
        return Estimate(seconds=None, bytes=None, how=f"the calibration failed: {found}")
    around = last["around"] if last is not None else START_SECONDS
    return _of_steps(recipe, card, found, workers, around)


def _of_steps(recipe: Recipe, card: Card, found: Measured, workers: int, around: float) -> Estimate:
    samples = card.samples["train"]
    batch = samples if recipe.train.batch_size == "full" else min(recipe.train.batch_size, samples)
    steps = -(-samples // batch)
    # A sample is validated in the time that its forward pass takes in training.
    validation = card.samples["val"] / batch * found.forward_seconds
    per_epoch = steps * found.step_seconds + validation
    shared = f", a share of 1/{workers} each" if workers > 1 else ""
    measured = f"{found.steps} steps measured{shared}: {found.step_seconds * 1000:.1f} ms"
    return Estimate(
        seconds=per_epoch * recipe.train.epochs + around,
        bytes=found.bytes,
        gpu_bytes=found.gpu_bytes or None,
        how=f"{measured}; {steps} steps an epoch, {_epochs(recipe)}",
    )


def _epochs(recipe: Recipe) -> str:
    return f"{recipe.train.epochs} epoch{'' if recipe.train.epochs == 1 else 's'}"


def _as_before(root: Path, recipe: Recipe, last: dict[str, Any]) -> bool:
    """Say whether the steps of the last training took what those of this one will: the same network, data and batches."""
    try:
        saved = json.loads((root / "models" / recipe.name / "recipe.json").read_text(encoding="utf-8"))
        card = read_card(root / "data" / "prepared" / recipe.name)
    except (OSError, ValueError, IntegrityError):
        return False
    if saved.get("fingerprint") != last.get("fingerprint") or card.sha256 != last.get("data_sha256"):
        return False
    before, now = saved["recipe"], recipe.to_json()
    one, other = ({key: value for key, value in values["train"].items() if key not in FREE} for values in (before, now))
    return bool(before["model"] == now["model"] and one == other)
