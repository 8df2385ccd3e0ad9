"""Files of results for tests, as `evaluate` writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trainyard.data.packed import Split
from trainyard.evaluation.predictions import label_predictions
from trainyard.evaluation.result_columns import label_columns
from trainyard.evaluation.results import About, Results, read_results, write_results

ABOUT = About(
    recipe="cnn",
    fingerprint="cnn-1",
    kind="image_classification",
    primary="accuracy",
    classes=("a", "b"),
    test_sha256="0" * 64,
)


def write_labels(path: Path, right: np.ndarray, about: About = ABOUT) -> Results:
    """Write what a model makes of samples of two classes, of which it gets some right (N,), and read it again."""
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    predictions = label_predictions(0.2 + 0.6 * np.eye(2)[predicted], labels)
    test = Split(about.kind, "test", {"labels": labels})
    write_results(path, about, test, label_columns(test, predictions))
    return read_results(path)


def about(name: str, fingerprint: str = "") -> About:
    """Return a recipe's identity."""
    return replace(ABOUT, recipe=name, fingerprint=fingerprint or f"{name}-1")
