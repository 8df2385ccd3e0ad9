"""Beginning with word vectors that were trained before, on more text than has labels (Mikolov 2013, arXiv:1301.3781)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.models.lstm_config import LSTMConfig

ROWS = 4096
"""Vectors that are in memory at once, in double precision."""


@torch.no_grad()
def take_vectors(network: nn.Module, path: Path, config: LSTMConfig) -> None:
    """Have the words of an LSTM begin with vectors; those without one stay as they were drawn.

    Their mean is taken away, which says how often words are more than what they mean (Mu 2018, arXiv:1702.01417), and they are
    scaled to the spread that a drawn embedding has, so that `embedding_scale` says of both how much they count against what
    training adds.

    Args:
        network: of `build_network`, for texts.
        path: the packed array, (vocabulary, embedding_size) float32, zeros for a word that has none.
        config: of the network.
    """
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    count, total = 0, np.zeros(vectors.shape[1])
    for rows, values in _found(vectors):
        count += len(rows)
        total += values.sum(axis=0)
    mean = total / max(1, count)
    squares = sum(float(np.square(values - mean).sum()) for _, values in _found(vectors))
    scale = config.embedding_scale / (math.sqrt(squares / max(1, count * len(mean))) or 1.0)
    embedding = network.get_parameter("embedding.weight")
    for rows, values in _found(vectors):
        embedding[torch.from_numpy(rows)] = torch.from_numpy(((values - mean) * scale).astype(np.float32))
    embedding.requires_grad_(not config.freeze_embedding)


def _found(vectors: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield the numbers (n,) of words that have a vector, and the vectors (n, embedding_size), some at a time."""
    for start in range(0, len(vectors), ROWS):
        part = vectors[start : start + ROWS]
        rows = np.flatnonzero(part.any(axis=1))
        yield start + rows, part[rows].astype(np.float64)
