"""Whether two models differ on the same test samples, or only by chance.

accuracy   McNemar's exact test on the samples that one of the two gets right and the other wrong (McNemar 1947,
           10.1007/BF02295996), which Dietterich 1998 (10.1162/089976698300017197) found to be the one test for two single
           trainings that cries wolf no more often than it says
all        the 95 % interval of the difference from a paired bootstrap (Efron and Tibshirani 1993, chapter 16): both models are
           scored on the same resamples, because F1 and IoU are no means over samples, for which tests are made; of forecasts,
           runs of windows are drawn, because neighbouring windows share steps

Paired, because what is hard for one model is mostly hard for the other: two intervals that overlap may hide a sure difference.
Both speak of these two trained models. Another seed gives other models, of which `trainyard repeat` tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainyard.errors import InputError
from trainyard.evaluation.metrics import Estimate, Floats, bootstrap, estimate, resampled_means, scores, total
from trainyard.evaluation.results import Results
from trainyard.tasks.primary import merit

LEVEL = 0.05
"""Probability of a difference at least so large by chance, below which it is taken for real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """The samples on which two models disagree, and how likely so uneven a split is by chance."""

    first_alone: int
    """Samples that the first gets right and the second wrong."""
    second_alone: int
    probability: float
    """Two-sided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of two models on the same samples."""

    metric: str
    first: float
    second: float
    difference: Estimate
    """First less second."""

    @property
    def better(self) -> int:
        """1 where the first is better, -1 where the second is, 0 where the interval holds both."""
        low, high = self.difference.low, self.difference.high
        if low <= 0 <= high:
            return 0
        return 1 if merit(self.metric, low) > 0 else -1


def check_same_test(first: Results, second: Results) -> None:
    """Refuse two models that were not tested on the same samples.

    Raises:
        InputError: saying what differs.
    """
    one, other = first.about, second.about
    names = f"{one.recipe} and {other.recipe}"
    if one.kind != other.kind:
        raise InputError(f"{names}: {one.kind} and {other.kind} have no metric in common; compare recipes of one kind")
    if one.test_sha256 != other.test_sha256:
        raise InputError(
            f"{names}: were not tested on the same samples (test data {one.test_sha256[:12]} and {other.test_sha256[:12]}), so "
            "a difference could be that of the data; give both recipes the same data: block, or one that tests the same "
            "samples in the same form"
        )


def differences(first: Results, second: Results, resamples: int, seed: int) -> list[Difference]:
    """Return every metric of the two and its difference, the primary one first.

    Raises:
        InputError: they were not tested on the same samples.
    """
    check_same_test(first, second)
    # The same block for both, or they would not be scored on the same resamples.
    block = max(first.about.block, second.about.block)
    (values, drawn), (others, others_drawn) = (_scored(results, block, resamples, seed) for results in (first, second))
    primary = first.about.primary
    return [
        Difference(
            metric=name,
            first=values[name],
            second=others[name],
            difference=estimate(values[name] - others[name], drawn[name] - others_drawn[name]),
        )
        for name in sorted(values, key=lambda name: name != primary)
    ]


def mcnemar(first: Results, second: Results) -> McNemar:
    """Test whether two classifiers are right equally often.

    Raises:
        InputError: they were not tested on the same samples.
    """
    from scipy.stats import binomtest

    check_same_test(first, second)
    right, other_right = (found.columns["label"] == found.columns["prediction"] for found in (first, second))
    alone, other_alone = int(np.sum(right & ~other_right)), int(np.sum(other_right & ~right))
    disagreements = alone + other_alone
    probability = float(binomtest(alone, disagreements, 0.5).pvalue) if disagreements else 1.0
    return McNemar(first_alone=alone, second_alone=other_alone, probability=probability)


def is_classifier(results: Results) -> bool:
    """Return whether samples are right or wrong as a whole."""
    return results.about.kind in ("image_classification", "text_classification")


def _scored(results: Results, block: int, resamples: int, seed: int) -> tuple[dict[str, float], dict[str, Floats]]:
    about = results.about
    if about.kind == "forecasting":
        columns = {name: results.columns[name] for name in ("mse", "mae")}
        values = {name: float(column.mean()) for name, column in columns.items()}
        return values, resampled_means(columns, block, resamples, seed)
    counts = results.counts()
    values = {name: float(value) for name, value in scores(about.kind, total(counts)).items()}
    return values, bootstrap(about.kind, counts, resamples, seed)
