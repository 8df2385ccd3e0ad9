"""Test metrics with bootstrap intervals, for labels and for masks alike.

Every metric here is a function of three counts by class, summed over samples: how often a class is rightly
predicted (overlap), how often it is true, and how often it is predicted. A label counts once, a mask once a
pixel. So one bootstrap serves all kinds: it sums the same counts over other samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.data.raw import Kind

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap between which a metric's 95 % interval lies."""
CHUNK_ENTRIES = 1 << 22
"""Drawn samples held in memory at a time: 32 MB of indices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCounts:
    """What is counted of each of N samples, by class."""

    overlap: Floats
    """(N, K) labels or pixels where this class is true and predicted."""
    truth: Floats
    """(N, K) labels or pixels where this class is true."""
    predicted: Floats
    """(N, K) labels or pixels where this class is predicted."""
    losses: Floats | None = None
    """(N,) cross-entropy in nats, for masks its mean over the pixels; None where it is not known."""
    briers: Floats | None = None
    """(N,) Brier score, for masks its mean over the pixels; None where it is not known."""
    rand_errors: Floats | None = None
    """(N,) of the cells in each mask; None where they were not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts summed over samples; the leading axes are any, such as one of the resamples."""

    overlap: Floats
    """(..., K)"""
    truth: Floats
    """(..., K)"""
    predicted: Floats
    """(..., K)"""
    loss: Floats | None = None
    """(...) mean over the samples."""
    brier: Floats | None = None
    """(...) mean over the samples."""
    rand_error: Floats | None = None
    """(...) mean over the samples."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric on the test split, and its 95 % interval."""

    value: float
    low: float
    high: float


def label_counts(
    labels: Integers, predicted: Integers, num_classes: int, losses: Floats | None = None, briers: Floats | None = None
) -> SampleCounts:
    """Count labels (N,) against predicted ones (N,)."""
    one_hot = np.eye(num_classes)
    truth, guess = one_hot[labels], one_hot[predicted]
    return SampleCounts(overlap=truth * guess, truth=truth, predicted=guess, losses=losses, briers=briers)


def confusions(truth: Integers, predicted: Integers, num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix of each mask (N, K, K), true classes in rows, of masks (N, H, W)."""
    samples = len(truth)
    cells = truth.reshape(samples, -1).astype(np.int64) * num_classes + predicted.reshape(samples, -1)
    cells += np.arange(samples)[:, None] * num_classes**2
    counts = np.bincount(cells.ravel(), minlength=samples * num_classes**2)
    return counts.reshape(samples, num_classes, num_classes)


def mask_counts(
    matrices: NDArray[np.int64],
    losses: Floats | None = None,
    briers: Floats | None = None,
    rand_errors: Floats | None = None,
) -> SampleCounts:
    """Count pixels from the confusion matrix of each mask (N, K, K)."""
    return SampleCounts(
        overlap=np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64),
        truth=matrices.sum(axis=2).astype(np.float64),
        predicted=matrices.sum(axis=1).astype(np.float64),
        losses=losses,
        briers=briers,
        rand_errors=rand_errors,
    )


def total(counts: SampleCounts) -> Totals:
    """Sum over all samples."""
    return Totals(
        overlap=counts.overlap.sum(axis=0),
        truth=counts.truth.sum(axis=0),
        predicted=counts.predicted.sum(axis=0),
        **{name: np.asarray(values.mean()) for name, values in means(counts).items()},
    )


def means(counts: SampleCounts) -> dict[str, Floats]:
    """Return what is averaged over the samples (N,), by the name of its mean."""
    values = {"loss": counts.losses, "brier": counts.briers, "rand_error": counts.rand_errors}
    return {name: value for name, value in values.items() if value is not None}


def scores(kind: Kind, totals: Totals) -> dict[str, Floats]:
    """Return every metric (...) of the kind.

    Means go over the classes that are true or predicted at least once, as in scikit-learn and torchmetrics.
    """
    found: dict[str, Floats] = {}
    share_right = totals.overlap.sum(axis=-1) / totals.truth.sum(axis=-1)
    occurs = totals.truth + totals.predicted > 0
    # F1 of a class (van Rijsbergen 1979) and its Dice coefficient (Dice 1945) are the same number.
    mean_dice = _mean(_ratio(2 * totals.overlap, totals.truth + totals.predicted), occurs)
    if kind == "segmentation":
        union = totals.truth + totals.predicted - totals.overlap
        found["mean_iou"] = _mean(_ratio(totals.overlap, union), occurs)
        found["dice"] = mean_dice
        found["pixel_accuracy"] = share_right
        if totals.truth.shape[-1] == 2:
            found["pixel_error"] = 1 - share_right
    else:
        found["accuracy"] = share_right
        found["macro_f1"] = mean_dice
    known = {"loss": totals.loss, "brier": totals.brier, "rand_error": totals.rand_error}
    return found | {name: value for name, value in known.items() if value is not None}


def by_class(kind: Kind, totals: Totals) -> dict[str, Floats]:
    """Return support and metrics of each class (K,); a class that is neither true nor predicted has NaN."""
    dice = _ratio(2 * totals.overlap, totals.truth + totals.predicted, np.nan)
    iou = _ratio(totals.overlap, totals.truth + totals.predicted - totals.overlap, np.nan)
    rates = {"precision": _ratio(totals.overlap, totals.predicted), "recall": _ratio(totals.overlap, totals.truth)}
    if kind == "segmentation":
        return {"pixels": totals.truth, "iou": iou, "dice": dice, **rates}
    return {"support": totals.truth, **rates, "f1": dice, "iou": iou}


def bootstrap(kind: Kind, counts: SampleCounts, resamples: int, seed: int) -> dict[str, Floats]:
    """Return every metric on each resample (resamples,) of the test split.

    Efron 1979: N samples are drawn with replacement, whole images for masks, because the pixels of one image
    are not independent. The draws depend on (seed, N) alone, so two models can be compared on each resample.
    """
    samples, num_classes = counts.truth.shape
    known = means(counts)
    columns = [counts.overlap, counts.truth, counts.predicted, *(values[:, None] for values in known.values())]
    table = np.concatenate(columns, axis=1)
    rng = np.random.Generator(np.random.Philox(key=[seed, samples]))
    sums = np.empty((resamples, table.shape[1]))
    chunk = max(1, CHUNK_ENTRIES // samples)
    for start in range(0, resamples, chunk):
        draws = rng.integers(samples, size=(min(chunk, resamples - start), samples))
        times = np.stack([np.bincount(draw, minlength=samples) for draw in draws])
        sums[start : start + chunk] = times.astype(np.float64) @ table
    overlap, truth, predicted = (sums[:, part * num_classes : (part + 1) * num_classes] for part in range(3))
    resampled = {name: sums[:, 3 * num_classes + column] / samples for column, name in enumerate(known)}
    return scores(kind, Totals(overlap=overlap, truth=truth, predicted=predicted, **resampled))


def resampled_means(by_window: Mapping[str, Floats], block: int, resamples: int, seed: int) -> dict[str, Floats]:
    """Return the means of values (N,) on each resample of the windows (resamples,).

    Circular block bootstrap (Politis and Romano 1992): windows that follow one another share steps, so they are drawn in
    runs of `block` windows, the first behind the last. Drawing single windows would make the interval far too narrow.
    """
    table = np.stack(list(by_window.values()), axis=1)
    windows, columns = table.shape
    summed = np.concatenate([np.zeros((1, columns)), np.cumsum(np.concatenate([table, table[:block]]), axis=0)])
    of_block = summed[block : block + windows] - summed[:windows]
    rng = np.random.Generator(np.random.Philox(key=[seed, windows]))
    blocks = -(-windows // block)
    means = np.stack([of_block[rng.integers(windows, size=blocks)].sum(axis=0) for _ in range(resamples)])
    means /= blocks * block
    return {name: means[:, column] for column, name in enumerate(by_window)}


def estimate(value: float, resampled: Floats) -> Estimate:
    """Return a metric with the percentile interval of its resamples."""
    low, high = np.percentile(resampled, INTERVAL)
    return Estimate(value, float(low), float(high))


def _ratio(part: Floats, whole: Floats, empty: float = 0.0) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(whole), empty), where=whole > 0)
    return ratio


def _mean(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Return the mean over the last axis of the values that count."""
    mean: Floats = (values * counted).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1)
    return mean
