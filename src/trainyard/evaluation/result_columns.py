"""What is kept of each test sample, by kind of data; results.py says what stands where."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.evaluation.forecasts import Errors
from trainyard.evaluation.predictions import Predictions


def label_columns(test: Split, predictions: Predictions) -> dict[str, NDArray[Any]]:
    """Return the columns for labels."""
    labels = np.asarray(test.arrays["labels"])
    columns = {
        "label": labels,
        "prediction": predictions.classes,
        "correct": labels == predictions.classes,
        "confidence": predictions.confidence,
        "loss": predictions.counts.losses,
        "brier": predictions.counts.briers,
        "probabilities": predictions.probabilities,
    }
    return {name: values for name, values in columns.items() if values is not None}


def mask_columns(predictions: Predictions, iou: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return the columns for masks, of which iou (N,) is the mean over the classes that an image shows."""
    counts = predictions.counts
    columns = {
        "iou": iou,
        "pixel_accuracy": counts.overlap.sum(axis=1) / counts.truth.sum(axis=1),
        "confidence": predictions.confidence,
        "loss": counts.losses,
        "brier": counts.briers,
        "rand_error": counts.rand_errors,
        **{name: getattr(counts, name).astype(np.int64) for name in ("overlap", "truth", "predicted")},
    }
    return {name: values for name, values in columns.items() if values is not None}


def forecast_columns(errors: Errors) -> dict[str, NDArray[Any]]:
    """Return the columns for forecasts."""
    columns = {"mse": errors.squared.mean(axis=1), "mae": errors.absolute.mean(axis=1)}
    if errors.covered is not None:
        columns["coverage"] = errors.covered.mean(axis=1)
    return {**columns, "squared": errors.squared, "absolute": errors.absolute}
