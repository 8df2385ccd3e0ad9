"""The test samples that are worth looking at: those first on which the models disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.comparing.contender import Contender
from trainyard.comparing.paired import same_test
from trainyard.data.packed import SPLITS, Split, open_split, read_card
from trainyard.errors import IntegrityError
from trainyard.evaluation.comparison import is_classifier
from trainyard.evaluation.results import sha256_of_test

ROWS = 40
"""Samples of labels or texts that are shown."""
PICTURES = 240
"""Masks or forecasts that are shown, over all models."""
MOST_PICTURE_ROWS, LEAST_PICTURE_ROWS = 16, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Models that were tested on the same samples as the first one, and those samples."""

    contenders: tuple[Contender, ...]
    """The first one and all that share its test."""
    rows: NDArray[np.int64]
    """The samples that are shown, those first on which the models disagree most."""
    disagreements: int
    """Samples of which some model is right and another wrong; for masks and forecasts, all on which they differ at all."""
    test: Split | None
    """Where the data are at hand."""


def asked_the_same(root_data: Sequence[str], contenders: Sequence[Contender]) -> Asked | None:
    """Return what is to be shown of the test samples; None where the first model was not tested, or nobody else on the same.

    Args:
        root_data: folders of packed data that may hold the samples.
        contenders: two or more.
    """
    first = contenders[0]
    alike = [first, *(other for other in contenders[1:] if same_test(first, other))]
    if first.results is None or len(alike) < 2:
        return None
    rows, disagreements = ranked(alike)
    if is_classifier(first.results):
        shown = ROWS
    else:
        shown = max(LEAST_PICTURE_ROWS, min(MOST_PICTURE_ROWS, PICTURES // (len(alike) + 2)))
    test = find_test(root_data, first.results.about.test_sha256)
    return Asked(contenders=tuple(alike), rows=rows[:shown], disagreements=disagreements, test=test)


def ranked(contenders: Sequence[Contender]) -> tuple[NDArray[np.int64], int]:
    """Return the samples worth looking at, and how many models do not agree on.

    Labels: where some are right and some wrong, first where that is nearest to half and half, then where the wrong ones are
    surest; then where all are wrong. Masks and forecasts: where the best and the worst of them are furthest apart.
    """
    results = [contender.results for contender in contenders if contender.results is not None]
    if not is_classifier(results[0]):
        name = "mse" if results[0].about.kind == "forecasting" else "iou"
        scores = np.stack([np.asarray(_column(contender, name), dtype=np.float64) for contender in contenders])
        apart = np.ptp(scores, axis=0)
        return np.argsort(-apart, kind="stable"), int(np.count_nonzero(apart))
    right = np.stack([found.columns["label"] == found.columns["prediction"] for found in results])
    confidence = np.stack([np.asarray(_confidence(contender), dtype=np.float64) for contender in contenders])
    minority = np.minimum(right.sum(axis=0), (~right).sum(axis=0))
    surest_wrong = np.where(right, 0, confidence).max(axis=0)
    order = np.lexsort((-surest_wrong, -minority))
    # Where all are right there is nothing to see.
    some_wrong = np.any(~right, axis=0)
    worth = order[some_wrong[order]]
    return worth, int(np.count_nonzero(minority))


def find_test(folders: Sequence[str], test_sha256: str) -> Split | None:
    """Return the test split of an identity, from the first folder of packed data that has it; None where none does."""
    from pathlib import Path

    for folder in map(Path, folders):
        try:
            card = read_card(folder)
            if SPLITS[2] in card.arrays and sha256_of_test(card) == test_sha256:
                return open_split(folder, "test", card)
        except IntegrityError:
            continue
    return None


def _confidence(contender: Contender) -> NDArray[np.float64]:
    """Return how sure a model is of its label (N,); a champion does not keep that, and counts as neither sure nor unsure."""
    count = 0 if contender.results is None else len(contender.results)
    return np.asarray(contender.details.get("confidence", np.full(count, 0.5)))


def _column(contender: Contender, name: str) -> NDArray[np.float64]:
    """Return a score by sample (N,), made of the counts where a file does not keep it."""
    from trainyard.evaluation.samples import sample_iou

    if name in contender.details:
        return np.asarray(contender.details[name])
    if contender.results is None:
        raise ValueError("a model without results is not asked")
    if name in contender.results.columns:
        return np.asarray(contender.results.columns[name])
    return sample_iou(contender.results.counts())
