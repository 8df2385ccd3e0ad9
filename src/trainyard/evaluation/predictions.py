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
from trainyard.evaluation.metrics import Floats, Integers, SampleCounts, confusions, label_counts, mask_counts
from trainyard.evaluation.rand_error import RandError

Probabilities = NDArray[np.float32] | NDArray[np.float64]


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


def predict(network: nn.Module, split: Split, batch_size: int, rand: RandError | None = None) -> Predictions:
    """Run a network over a whole split in fp32; `rand` says which regions of masks to compare, too.

    Probabilities of masks are reduced batch by batch: of a whole split they take 4 K bytes a pixel.
    """
    batches = predicted_batches(network, split, batch_size)
    if split.kind == "segmentation":
        return mask_predictions(batches, split.arrays["masks"], rand)
    return label_predictions(np.concatenate(list(batches)), split.arrays["labels"])


def label_predictions(probabilities: Probabilities, labels: Integers) -> Predictions:
    """Compare probabilities (N, K) with labels (N,)."""
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    losses = _cross_entropy(probabilities[np.arange(len(labels)), labels])
    confusion = np.bincount(np.asarray(labels) * num_classes + predicted, minlength=num_classes**2)
    return Predictions(
        classes=predicted,
        confidence=probabilities.max(axis=1).astype(np.float32),
        counts=label_counts(np.asarray(labels), predicted, num_classes, losses),
        confusion=confusion.reshape(num_classes, num_classes),
    )


def mask_predictions(batches: Iterable[Probabilities], masks: Integers, rand: RandError | None = None) -> Predictions:
    """Compare batches of probabilities (n, K, H, W) with masks (N, H, W), in order."""
    predicted, confidence, losses, counts, confusion = [], [], [], [], 0
    rand_errors: list[Floats] = []
    start = 0
    for probabilities in batches:
        truth = np.asarray(masks[start : start + len(probabilities)])
        start += len(probabilities)
        classes = probabilities.argmax(axis=1).astype(np.uint8)
        matrices = confusions(truth, classes, probabilities.shape[1])
        given = np.take_along_axis(probabilities, truth[:, None].astype(np.int64), axis=1).astype(np.float64)
        predicted.append(classes)
        confidence.append(probabilities.max(axis=1).mean(axis=(1, 2)))
        losses.append(_cross_entropy(given).mean(axis=(1, 2, 3)))
        counts.append(mask_counts(matrices))
        if rand is not None:
            rand_errors.append(rand.of(probabilities, truth))
        confusion = confusion + matrices.sum(axis=0)
    return Predictions(
        classes=np.concatenate(predicted),
        confidence=np.concatenate(confidence).astype(np.float32),
        counts=SampleCounts(
            overlap=np.concatenate([part.overlap for part in counts]),
            truth=np.concatenate([part.truth for part in counts]),
            predicted=np.concatenate([part.predicted for part in counts]),
            losses=np.concatenate(losses),
            rand_errors=np.concatenate(rand_errors) if rand_errors else None,
        ),
        confusion=np.asarray(confusion),
    )


def predicted_batches(network: nn.Module, split: Split, batch_size: int) -> Iterable[Probabilities]:
    """Yield the probabilities (n, K) or (n, K, H, W) of a whole split, in order."""
    network.eval()
    for batch in eval_batches(split, batch_size):
        with torch.inference_mode():
            yield network(*batch.inputs).float().softmax(dim=1).numpy()


def _cross_entropy(probabilities: Probabilities) -> Floats:
    """Return the loss in nats from the probability of the true class, at least the smallest float32."""
    smallest = np.finfo(np.float32).tiny
    losses: Floats = -np.log(np.maximum(probabilities, smallest).astype(np.float64))
    return losses
