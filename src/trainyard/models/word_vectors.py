"""Beginning with word vectors that were trained before, on more text than has labels (Mikolov 2013, arXiv:1301.3781)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainyard.models.lstm_config import LSTMConfig


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
    rows = np.flatnonzero(vectors.any(axis=1))
    found = vectors[rows].astype(np.float64)
    found -= found.mean(axis=0)
    found *= config.embedding_scale / (found.std() or 1.0)
    embedding = network.get_parameter("embedding.weight")
    embedding[torch.from_numpy(rows)] = torch.from_numpy(found.astype(np.float32))
    embedding.requires_grad_(not config.freeze_embedding)
