"""One of the models that are compared, and what is known of it, wherever that was kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Card, read_card
from trainyard.errors import IntegrityError
from trainyard.evaluation.results import Results, read_results, sha256_of_test
from trainyard.evaluation.summary import STAGES, read_reports
from trainyard.tracking.fetch import FetchedRun
from trainyard.tracking.run import flatten

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""By metric: (epoch, value)."""
NO_CURVE = frozenset({"epoch", "seconds", "step"})
"""Columns of history.csv that are no metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A trained model as it is compared."""

    label: str
    """What it is called on the page; no two are called the same."""
    origin: Literal["recipe", "run", "champion", "results"]
    place: str
    """Where what is known of it was found."""
    params: Mapping[str, str] = field(default_factory=dict)
    """By dotted name."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    results: Results | None = None
    """By test sample; None where it was not evaluated."""
    details: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns by test sample, such as its confidence."""
    card: Card | None = None
    """Of the data that it was trained on."""
    model_dir: Path | None = None
    """Where its weights are."""
    run: FetchedRun | None = None
    """What the tracking store knows of it."""
    missing: tuple[str, ...] = ()
    """What could not be shown, and why."""

    @property
    def test_sha256(self) -> str | None:
        """The identity of the samples that it was tested on, or would be; None where nobody knows."""
        if self.results is not None:
            return self.results.about.test_sha256
        return None if self.card is None else sha256_of_test(self.card)

    @property
    def fingerprint(self) -> str:
        """The trained state, as far as it is known."""
        if self.results is not None:
            return self.results.about.fingerprint
        return "" if self.run is None else self.run.tags.get("trainyard.fingerprint", "")


def of_recipe(root: Path, name: str, run: FetchedRun | None, missing: Sequence[str]) -> Contender:
    """Return what a recipe of the project has now.

    Raises:
        IntegrityError: a file of it cannot be read.
    """
    reports, models = root / "reports" / name, root / "models" / name
    found = read_reports(reports)
    metrics = {
        f"{'' if stage != 'export' else 'export/'}{key}": v for stage in STAGES for key, v in found.get(stage, {}).items()
    }
    described = _json(models / "recipe.json").get("recipe", {})
    results_path, card_dir = reports / "predictions.parquet", root / "data" / "prepared" / name
    results = read_results(results_path) if results_path.is_file() else None
    gaps = [*missing]
    if results is None:
        gaps.append("it was not evaluated yet, so nothing is known by test sample")
    elif results.about.fingerprint != (trained := _json(models / "recipe.json").get("fingerprint")):
        gaps.append(
            f"its test results are of {results.about.fingerprint}, its parameters and curves of {trained}: run dvc repro"
        )
    return Contender(
        label=name,
        origin="recipe",
        place=f"recipe {name} of this project",
        params=flatten({key: value for key, value in described.items() if key != "name"}),
        metrics=_numbers(metrics),
        curves=read_history(reports / "history.csv"),
        results=results,
        details=read_details(results_path),
        card=read_card(card_dir) if (card_dir / "card.json").is_file() else None,
        model_dir=models if (models / "model.safetensors").is_file() else None,
        run=run,
        missing=tuple(gaps),
    )


def of_run(run: FetchedRun, label: str) -> Contender:
    """Return what the tracking store has of a run.

    Raises:
        IntegrityError: a file of it cannot be read.
    """
    folder = run.folder or Path()
    results_path, model_dir = folder / "evaluate" / "predictions.parquet", folder / "model"
    results = read_results(results_path) if results_path.is_file() else None
    # Intervals are in the file alone, but for that of the primary metric.
    metrics = {**run.metrics, **_json(folder / "evaluate" / "evaluate.json")}
    if (folder / "weights" / "model.safetensors").is_file() and (folder / "export" / "recipe.json").is_file():
        model_dir.mkdir(exist_ok=True)
        for path in (folder / "weights" / "model.safetensors", folder / "export" / "recipe.json"):
            path.replace(model_dir / path.name)
    return Contender(
        label=label,
        origin="run",
        place=f"MLflow run {run.run_id}",
        params={key: value for key, value in run.params.items() if key != "name"},
        metrics=_numbers({key: value for key, value in metrics.items() if not key.startswith(("system/", "class_", "class/"))}),
        # There epochs count from 0.
        curves={name: [(epoch + 1, value) for epoch, value in points] for name, points in run.curves.items()},
        results=results,
        details=read_details(results_path),
        card=read_card(folder / "data") if (folder / "data" / "card.json").is_file() else None,
        model_dir=model_dir if model_dir.is_dir() else None,
        run=run,
        missing=() if results else ("the run has no evaluate/predictions.parquet, so nothing is known by test sample",),
    )


def of_champion(folder: Path, label: str) -> Contender:
    """Return a recipe's champion.

    Raises:
        IntegrityError: a file cannot be read.
    """
    said = _json(folder / "champion.json")
    metric = said.get("metric", "")
    numbers = {"": said.get("value"), "_low": said.get("low"), "_high": said.get("high")}
    return Contender(
        label=label,
        origin="champion",
        place=f"champion in {label}",
        metrics=_numbers({f"test/{metric}{end}": value for end, value in numbers.items()}),
        results=read_results(folder / "results.parquet"),
        missing=("a champion keeps its results alone: no parameters, no curves, no costs",),
    )


def of_results(path: Path, label: str) -> Contender:
    """Return what a file of results says; the reports of the same evaluation beside it are read too.

    Raises:
        InputError: there is no such file.
        IntegrityError: it cannot be read.
    """
    results, found = read_results(path), read_reports(path.parent)
    metrics = {key: value for stage in ("train", "evaluate") for key, value in found.get(stage, {}).items()}
    return Contender(
        label=label,
        origin="results",
        place=f"results in {label}",
        metrics=_numbers(metrics),
        curves=read_history(path.parent / "history.csv"),
        results=results,
        details=read_details(path),
        missing=("a file of results does not say its parameters",),
    )


def read_history(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the curves in a history.csv; none where there is no such file.

    Raises:
        IntegrityError: it cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        names = [name for name in (rows[0] if rows else {}) if name not in NO_CURVE]
        return {name: [(row["epoch"], row[name]) for row in rows] for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to make it again") from None


def read_details(path: Path) -> dict[str, NDArray[Any]]:
    """Return those columns of a file of results, which `read_results` has read, that a champion does not keep."""
    if not path.is_file():
        return {}
    from pyarrow import parquet

    there = parquet.read_schema(path).names
    table = parquet.read_table(
        path, columns=[name for name in ("sample", "confidence", "loss", "brier", "iou") if name in there]
    )
    return {name: np.asarray(table[name].to_numpy()) for name in table.column_names}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to make it again") from None
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: cannot be read (it holds no values by name); run `dvc repro` to make it again")
    return values


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
