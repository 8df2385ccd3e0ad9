"""How much two answers of the same network may differ because their numbers are large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGE_LOGIT = 10.0
"""Up to it, differences of logits count as they are; the softmax is then within e^-10 of 0 or 1."""


def logit_scale(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by what differences of logits (N, K, ...) are divided, (N, 1, ...): 1, or a tenth of a sample's largest logit.

    A float32 has seven digits, so that what is added in another order departs by more where logits are of hundreds.
    """
    largest = np.abs(logits).reshape(len(logits), -1).max(axis=1)
    scale: NDArray[np.float32] = np.fmax(1, largest / LARGE_LOGIT).reshape(-1, *[1] * (logits.ndim - 1))
    return scale
