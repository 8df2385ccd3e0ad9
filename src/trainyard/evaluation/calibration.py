"""Whether a probability of 0.8 is right eight times in ten, and how to make it so.

expected calibration error   Naeini 2015, 10.1609/aaai.v29i1.9602; as in Guo 2017: 15 bins of equal width, the likeliest class
Brier score                  Brier 1950, Monthly Weather Review 78:1; the sum over classes, from 0 to 2
temperature scaling          Guo 2017, arXiv:1706.04599
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.evaluation.metrics import Floats, Integers

Probabilities = NDArray[np.float32] | NDArray[np.float64]

BINS = 15
"""Of equal width, over the probability of the likeliest class."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""Probability below which none is taken for."""
TEMPERATURES = (0.05, 20.0)
"""Between which the best one is sought."""
FITTED_VALUES = 4_000_000
"""Probabilities that a temperature is fitted to at most: single pixels, where masks have more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How often predictions of each confidence are right, in samples or pixels; the bins are (0, 1/15], (1/15, 2/15], ..."""

    count: Floats
    """(BINS,)"""
    confidence: Floats
    """(BINS,) sum of the probabilities of the likeliest class."""
    right: Floats
    """(BINS,) how many of them were right."""

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            count=self.count + other.count, confidence=self.confidence + other.confidence, right=self.right + other.right
        )

    @property
    def error(self) -> float:
        """The expected calibration error: how far confidence and accuracy are apart, on average over all predictions."""
        return float(np.abs(self.confidence - self.right).sum() / self.count.sum())


NOTHING = Reliability(count=np.zeros(BINS), confidence=np.zeros(BINS), right=np.zeros(BINS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What calibration is measured by, of some probabilities."""

    reliability: Reliability
    losses: Floats
    """(N,) cross-entropy of each sample in nats, for masks its mean over the pixels."""
    briers: Floats
    """(N,) Brier score of each sample, for masks its mean over the pixels."""


def measure(probabilities: Probabilities, truth: Integers) -> Calibrated:
    """Compare probabilities (N, K) with labels (N,), or (N, K, H, W) with masks (N, H, W)."""
    likeliest = probabilities.argmax(axis=1)
    given = np.take_along_axis(probabilities, truth[:, None].astype(np.int64), axis=1)[:, 0].astype(np.float64)
    # The sum over the classes of (p - y)^2, where y is 1 for the true class and 0 for the others.
    briers = np.einsum("nk...,nk...->n...", probabilities, probabilities, dtype=np.float64) - 2 * given + 1
    inner = tuple(range(1, truth.ndim))
    return Calibrated(
        reliability=reliability(probabilities.max(axis=1), likeliest == truth),
        losses=cross_entropy(given).mean(axis=inner),
        briers=briers.mean(axis=inner),
    )


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Reliability:
    """Sum predictions up by their confidence (...), each of which is right (...) or not."""
    flat = np.asarray(confidence, dtype=np.float64).ravel()
    numbers = np.clip(np.ceil(flat * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count, summed, rights = (
        np.bincount(numbers, weights=weights, minlength=BINS).astype(np.float64) for weights in (None, flat, right.ravel())
    )
    return Reliability(count=count, confidence=summed, right=rights)


def cross_entropy(given: Floats) -> Floats:
    """Return the loss in nats from the probability of the true class, at least the smallest float32."""
    losses: Floats = -np.log(np.maximum(given, SMALLEST))
    return losses


def temper(probabilities: Probabilities, temperature: float) -> Floats:
    """Return the probabilities (N, K, ...) of a network whose logits are divided by a temperature."""
    # Logits are logarithms of probabilities, up to a number that all classes share.
    logits = np.log(np.maximum(probabilities, SMALLEST).astype(np.float64)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    tempered: Floats = powers / powers.sum(axis=1, keepdims=True)
    return tempered


def fit_temperature(probabilities: Probabilities, labels: Integers) -> float:
    """Return the temperature at which probabilities (M, K) of labels (M,) have the lowest cross-entropy.

    Above 1 the network was too sure of itself. No label changes: the likeliest class stays the likeliest.
    """
    from scipy.optimize import minimize_scalar

    truth = np.asarray(labels, dtype=np.int64)

    def loss(log_temperature: float) -> float:
        given = temper(probabilities, float(np.exp(log_temperature)))[np.arange(len(truth)), truth]
        return float(cross_entropy(given).mean())

    # The loss is convex in 1 / temperature, so that it falls to one lowest point and rises behind it.
    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
