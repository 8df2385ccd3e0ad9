"""What is chosen on the validation split, so that the test split is asked once and for the result alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.data.raw import Kind
from trainyard.evaluation import rand_error
from trainyard.evaluation.calibration import FITTED_VALUES, Probabilities, fit_temperature
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.metrics import Integers, Totals, scores
from trainyard.evaluation.rand_error import RandError
from trainyard.tasks.primary import PRIMARY, merit

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities of the second of two classes from which it can be said to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What was chosen; None where it was not asked for."""

    rand: RandError | None = None
    temperature: float | None = None
    threshold: float | None = None
    """Probability from which the second of two classes is predicted."""


NONE = Choices()


class ThresholdSearch:
    """Counts how often the second of two classes is true and false at each probability, batch by batch."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, len(THRESHOLDS) + 1))

    def add(self, probabilities: Probabilities, truth: Integers) -> None:
        """Count probabilities (n, 2, ...) of truth (n, ...)."""
        passed = np.searchsorted(THRESHOLDS, probabilities[:, 1].ravel(), side="right")
        for number in (0, 1):
            self.counts[number] += np.bincount(passed[truth.ravel() == number], minlength=len(THRESHOLDS) + 1)

    def best(self, kind: Kind) -> float:
        """Return the threshold with the best primary metric; of equal ones that nearest to a half."""
        at_least = self.counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        of_class = self.counts.sum(axis=1)
        overlap = np.stack([of_class[0] - at_least[0], at_least[1]], axis=1)
        predicted = np.stack([of_class.sum() - at_least.sum(axis=0), at_least.sum(axis=0)], axis=1)
        truth = np.broadcast_to(of_class, overlap.shape)
        primary = PRIMARY[kind]
        values = scores(kind, Totals(overlap=overlap, truth=truth, predicted=predicted))[primary]
        merits = np.array([merit(primary, value) for value in values])
        best = np.flatnonzero(merits == merits.max())
        return float(THRESHOLDS[best[np.abs(THRESHOLDS[best] - 0.5).argmin()]])


class Sampled:
    """A share of all probabilities and their labels, spread over the split, that a temperature is fitted to."""

    def __init__(self, values: int) -> None:
        """Take at most FITTED_VALUES of so many values."""
        self.step = max(1, -(-values // FITTED_VALUES))
        self.probabilities: list[NDArray[np.floating]] = []
        self.labels: list[Integers] = []

    def add(self, probabilities: Probabilities, truth: Integers) -> None:
        """Take some of probabilities (n, K, ...) and truth (n, ...)."""
        rows = np.moveaxis(probabilities, 1, -1).reshape(-1, probabilities.shape[1])
        # Neighbouring pixels tell much the same, so every so many of them are as good as all.
        self.probabilities.append(rows[:: self.step].copy())
        self.labels.append(truth.reshape(-1)[:: self.step].astype(np.int64))

    def fit(self) -> float:
        """Return the temperature."""
        return fit_temperature(np.concatenate(self.probabilities), np.concatenate(self.labels))


def needs_validation(config: EvaluateConfig, kind: Kind, num_classes: int) -> bool:
    """Return whether anything is chosen, or measured, on the validation split."""
    if kind == "forecasting":
        return config.interval is not None
    return config.rand_error is not None or config.temperature == "fit" or _binary(config, num_classes)


def choose(
    batches: Iterable[Probabilities], val: Split, config: EvaluateConfig, num_classes: int, foreground: int | None
) -> Choices:
    """Choose all that the recipe asks for in one pass.

    Args:
        batches: probabilities (n, K, ...) of the validation split, in order.
        val: the split.
        config: of the scoring.
        num_classes: K.
        foreground: number of the class of cells, for the Rand error.
    """
    truth = val.arrays["masks" if val.kind == "segmentation" else "labels"]
    search = ThresholdSearch() if _binary(config, num_classes) else None
    sampled = Sampled(truth.size * num_classes) if config.temperature == "fit" else None

    def observed() -> Iterator[Probabilities]:
        start = 0
        for probabilities in batches:
            part = np.asarray(truth[start : start + len(probabilities)])
            start += len(part)
            for observer in (search, sampled):
                if observer is not None:
                    observer.add(probabilities, part)
            yield probabilities

    rand = None
    if foreground is not None:
        rand = rand_error.choose(observed(), truth, foreground)
    else:
        for _ in observed():
            pass
    return Choices(
        rand=rand,
        temperature=sampled.fit() if sampled else None,
        threshold=search.best(val.kind) if search else None,
    )


def _binary(config: EvaluateConfig, num_classes: int) -> bool:
    return config.threshold == "fit" and num_classes == 2
