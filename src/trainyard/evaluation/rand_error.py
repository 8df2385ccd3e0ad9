"""How well a segmentation keeps cells apart and whole: the Rand score of the ISBI 2012 challenge.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for connectomics", Frontiers in
Neuroanatomy 9:142. A cell is a region of the foreground whose pixels touch at their sides. Over the pixels of true cells,
with n_ij of them in found cell i and true cell j, and each pixel that was found to be no cell as a cell of its own:

    split = sum n_ij^2 / sum_j (sum_i n_ij)^2    merge = sum n_ij^2 / sum_i (sum_j n_ij)^2    score = their harmonic mean

split falls when a true cell is cut, merge when two are joined; the error is one minus the score. The challenge takes the
best threshold of the tested images themselves and thins all borders first. Here the threshold comes from other images,
and borders are as thick as they were drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainyard.evaluation.metrics import Floats, Integers

THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(1, 20))
"""Probabilities of the foreground from which a pixel can be said to belong to a cell."""
Foreground = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandError:
    """What is a cell, in truth and in probabilities."""

    foreground: int
    """Number of its class."""
    threshold: float
    """Probability above which a pixel belongs to a cell."""

    def of(self, probabilities: NDArray[np.floating], masks: Integers) -> Floats:
        """Return the error (n,) of each image, of probabilities (n, K, H, W) and masks (n, H, W)."""
        found = probabilities[:, self.foreground] > self.threshold
        truth = masks == self.foreground
        return np.array([1 - rand_score(*pair) for pair in zip(truth, found, strict=True)])


def choose(batches: Iterable[NDArray[np.floating]], masks: Integers, foreground: int) -> RandError:
    """Return the error with the threshold whose mean score is best over a split, to be used on another one.

    Args:
        batches: probabilities (n, K, H, W), in order.
        masks: (N, H, W) of all of them.
        foreground: number of the class of cells.
    """
    errors = []
    start = 0
    for probabilities in batches:
        truth = np.asarray(masks[start : start + len(probabilities)])
        start += len(probabilities)
        candidates = (RandError(foreground=foreground, threshold=threshold) for threshold in THRESHOLDS)
        errors.append(np.stack([candidate.of(probabilities, truth) for candidate in candidates]))
    mean = np.concatenate(errors, axis=1).mean(axis=1)
    return RandError(foreground=foreground, threshold=THRESHOLDS[int(mean.argmin())])


def rand_score(truth: Foreground, found: Foreground) -> float:
    """Return the score, 0 to 1, of what was found to be foreground (H, W) where cells are in truth (H, W).

    Without a cell in truth there is nothing to keep apart or whole, and the score is 1.
    """
    from scipy.ndimage import label

    if not truth.any():
        return 1.0
    true_cells, true_count = label(truth)
    found_cells, found_count = label(found)
    inside = truth & found
    pairs = true_cells[inside].astype(np.int64) * (found_count + 1) + found_cells[inside]
    alone = int(np.count_nonzero(truth & ~found))
    both = _squares(np.unique(pairs, return_counts=True)[1]) + alone
    of_truth = _squares(np.bincount(true_cells[truth], minlength=true_count + 1))
    of_found = _squares(np.bincount(found_cells[inside], minlength=found_count + 1)) + alone
    # The harmonic mean of both / of_truth and both / of_found.
    return 2 * both / (of_truth + of_found)


def _squares(counts: Integers) -> float:
    return float(np.square(counts.astype(np.float64)).sum())
