"""What is written beside the figures: everything about a model's test in one JSON file, and a table of its worst samples."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.data.spreadsheet import text_cell, write_table
from trainyard.evaluation.calibration import Calibrated, Reliability
from trainyard.evaluation.choices import Choices
from trainyard.evaluation.metrics import Floats
from trainyard.evaluation.predictions import Predictions
from trainyard.evaluation.results import FORMAT, About
from trainyard.files import write_whole

WORST = 50
"""Samples in the table of the worst ones."""
PART, SCORE = "part", "score"
"""Columns that the table by class or by step has whatever the kind of data: dvc.yaml draws them."""
TEXT_SIGNS = 1000
"""Most that the table holds of a text."""
CHARTED_CLASSES = 100
"""Of more classes, the tracking server is told no metrics one by one; the report has them."""


def write_report(path: Path, about: About, samples: int, baseline: str | None, parts: Mapping[str, Any]) -> None:
    """Write the JSON report: whose it is, on which data, and its parts by name."""
    values = {
        "format": FORMAT,
        "recipe": about.recipe,
        "fingerprint": about.fingerprint,
        "kind": about.kind,
        "primary": about.primary,
        "test": {"samples": samples, "sha256": about.test_sha256},
        "baseline": baseline,
        # What was measured by the clock is in the metrics alone, so that the same model has the same report.
        **{name: _untimed(part) if name == "metrics" else part for name, part in parts.items()},
    }
    write_whole(path, f"{json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode())


def classes_part(classes: tuple[str, ...], columns: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """Return the metrics of each class; null where the class is neither true nor predicted."""
    return [
        {"class": name, **{column: _number(values[number]) for column, values in columns.items()}}
        for number, name in enumerate(classes)
    ]


def calibration_part(predictions: Predictions, choices: Choices) -> dict[str, Any]:
    """Return how well probabilities match how often they are right: as trained, and at the fitted temperature."""
    counts = predictions.counts
    found: dict[str, Any] = {"as_trained": _calibration(predictions.reliability, counts.losses, counts.briers)}
    if (after := predictions.tempered) is not None:
        found["at_temperature"] = _calibration(after.reliability, after.losses, after.briers)
        found["temperature"] = choices.temperature
    return found


def tempered_metrics(after: Calibrated) -> dict[str, float]:
    """Return what the temperature made of the calibration."""
    return {
        "test/ece_at_temperature": after.reliability.error,
        "test/loss_at_temperature": float(after.losses.mean()),
        "test/brier_at_temperature": float(after.briers.mean()),
    }


def charted(classes: list[dict[str, Any]]) -> dict[str, float]:
    """Return the metrics of the classes by names that every tracker takes."""
    if len(classes) > CHARTED_CLASSES:
        return {}
    names = [re.sub(r"[^A-Za-z0-9_. -]", "_", row["class"]) for row in classes]
    # Two classes may differ in signs alone that no name can hold.
    unique = [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]
    return {
        # MLflow charts together what has the same beginning: a group a metric, and not one a class.
        f"class_{metric}/{name}": value
        for name, row in zip(unique, classes, strict=True)
        for metric, value in row.items()
        if metric in ("precision", "recall", "f1", "dice", "iou") and value is not None
    }


def worst_labels(path: Path, test: Split, predictions: Predictions, classes: tuple[str, ...]) -> None:
    """Write the samples whose true class was given the least probability, with their texts where they are texts."""
    probabilities, losses = predictions.probabilities, predictions.counts.losses
    if probabilities is None or losses is None:
        raise ValueError("these predictions hold no probabilities")
    labels, texts = np.asarray(test.arrays["labels"]), test.kind == "text_classification"
    header = ["index", "sample", "label", "prediction", "confidence", "probability_of_label", "loss", *(["text"] * texts)]
    rows = []
    for index in worst_first(losses):
        label, predicted = int(labels[index]), int(predictions.classes[index])
        numbers = [predictions.confidence[index], probabilities[index, label], losses[index]]
        row = [str(index), text_cell(test.sample_name(index)), text_cell(classes[label]), text_cell(classes[predicted])]
        text = [text_cell(test.text(index)[:TEXT_SIGNS])] if texts else []
        rows.append([*row, *(f"{number:.4g}" for number in numbers), *text])
    write_table(path, header, rows)


def worst_numbers(path: Path, test: Split, errors: Floats, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write the samples with the largest errors (N,), and some numbers (N,) of each."""
    rows = [
        [str(index), text_cell(test.sample_name(index)), *(f"{values[index]:.4g}" for values in columns.values())]
        for index in worst_first(errors)
    ]
    write_table(path, ["index", "sample", *columns], rows)


def worst_first(errors: Floats) -> list[int]:
    """Return the samples with the largest errors, the largest first."""
    return [int(index) for index in np.argsort(-errors, kind="stable")[:WORST]]


def _calibration(reliability: Reliability, losses: Floats | None, briers: Floats | None) -> dict[str, Any]:
    if losses is None or briers is None:
        raise ValueError("these predictions hold no losses")
    count = np.maximum(reliability.count, 1)
    bins = zip(reliability.count, reliability.confidence / count, reliability.right / count, strict=True)
    return {
        "ece": reliability.error,
        "loss": float(losses.mean()),
        "brier": float(briers.mean()),
        "bins": [{"count": int(n), "confidence": float(sure), "accuracy": float(right)} for n, sure, right in bins],
    }


def _untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "seconds" not in name}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
