"""What a model says of every sample of a split, and how that compares with the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.data.batches import eval_batches
from trainyard.data.packed import Split
from trainyard.evaluation.calibration import NOTHING, Calibrated, Probabilities, Reliability, measure, temper
from trainyard.evaluation.choices import NONE, Choices
from trainyard.evaluation.metrics import Floats, Integers, SampleCounts, confusions, label_counts, mask_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The likeliest class of each of N samples, or of each of their pixels."""

    classes: Integers
    """Labels (N,), or masks (N, H, W) uint8."""
    confidence: NDArray[np.float32]
    """(N,) probability of the predicted class; for masks its mean over the pixels."""
    counts: SampleCounts
    confusion: NDArray[np.int64]
    """(K, K) labels or pixels, true classes in rows."""
    reliability: Reliability
    probabilities: Probabilities | None = None
    """(N, K) of every sample; None for masks, whose probabilities would take 4 K bytes a pixel."""
    tempered: Calibrated | None = None
    """Once the temperature was applied; None where none was fitted."""
    at_threshold: SampleCounts | None = None
    """At the chosen threshold; None where none was chosen."""


def predict(network: nn.Module, split: Split, batch_size: int, choices: Choices = NONE) -> Predictions:
    """Run a network over a whole split in fp32; `choices` says what else is measured.

    Probabilities of masks are reduced batch by batch: of a whole split they take 4 K bytes a pixel.
    """
    batches = predicted_batches(network, split, batch_size)
    if split.kind == "segmentation":
        return mask_predictions(batches, split.arrays["masks"], choices)
    return label_predictions(np.concatenate(list(batches)), split.arrays["labels"], choices)


def label_predictions(probabilities: Probabilities, labels: Integers, choices: Choices = NONE) -> Predictions:
    """Compare probabilities (N, K) with labels (N,)."""
    num_classes = probabilities.shape[1]
    truth = np.asarray(labels)
    predicted = probabilities.argmax(axis=1)
    measured = measure(probabilities, truth)
    confusion = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    at_threshold = None
    if choices.threshold is not None:
        at_threshold = label_counts(truth, (probabilities[:, 1] >= choices.threshold).astype(np.int64), num_classes)
    return Predictions(
        classes=predicted,
        confidence=probabilities.max(axis=1).astype(np.float32),
        counts=label_counts(truth, predicted, num_classes, measured.losses, measured.briers),
        confusion=confusion.reshape(num_classes, num_classes),
        reliability=measured.reliability,
        probabilities=probabilities,
        tempered=None if choices.temperature is None else measure(temper(probabilities, choices.temperature), truth),
        at_threshold=at_threshold,
    )


def mask_predictions(batches: Iterable[Probabilities], masks: Integers, choices: Choices = NONE) -> Predictions:
    """Compare batches of probabilities (n, K, H, W) with masks (N, H, W), in order."""
    predicted, confidence, measured, tempered, matrices = [], [], [], [], []
    at_threshold: list[NDArray[np.int64]] = []
    rand_errors: list[Floats] = []
    start = 0
    for probabilities in batches:
        truth = np.asarray(masks[start : start + len(probabilities)])
        start += len(probabilities)
        num_classes = probabilities.shape[1]
        classes = probabilities.argmax(axis=1).astype(np.uint8)
        predicted.append(classes)
        confidence.append(probabilities.max(axis=1).mean(axis=(1, 2)))
        measured.append(measure(probabilities, truth))
        matrices.append(confusions(truth, classes, num_classes))
        if choices.temperature is not None:
            tempered.append(measure(temper(probabilities, choices.temperature), truth))
        if choices.threshold is not None:
            found = (probabilities[:, 1] >= choices.threshold).astype(np.uint8)
            at_threshold.append(confusions(truth, found, num_classes))
        if choices.rand is not None:
            rand_errors.append(choices.rand.of(probabilities, truth))
    whole, counted = _joined(measured), np.concatenate(matrices)
    return Predictions(
        classes=np.concatenate(predicted),
        confidence=np.concatenate(confidence).astype(np.float32),
        counts=mask_counts(counted, whole.losses, whole.briers, np.concatenate(rand_errors) if rand_errors else None),
        confusion=counted.sum(axis=0),
        reliability=whole.reliability,
        tempered=_joined(tempered) if tempered else None,
        at_threshold=mask_counts(np.concatenate(at_threshold)) if at_threshold else None,
    )


def predicted_batches(network: nn.Module, split: Split, batch_size: int) -> Iterable[Probabilities]:
    """Yield the probabilities (n, K) or (n, K, H, W) of a whole split, in order."""
    network.eval()
    for batch in eval_batches(split, batch_size):
        with torch.inference_mode():
            yield network(*batch.inputs).float().softmax(dim=1).numpy()


def _joined(parts: list[Calibrated]) -> Calibrated:
    return Calibrated(
        reliability=sum((part.reliability for part in parts), NOTHING),
        losses=np.concatenate([part.losses for part in parts]),
        briers=np.concatenate([part.briers for part in parts]),
    )
