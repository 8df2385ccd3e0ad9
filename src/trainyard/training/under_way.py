"""The batch that is under way, for layers whose result depends on which samples they see."""

from __future__ import annotations

import torch
from torch import Tensor

from trainyard.data.batches import Batch


class UnderWay:
    """What the layers of one network may know of the batch that goes through them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self.step = 0
        """Of the epoch, 0-based; all pieces of an accumulated step have one."""
        self.indices: Tensor = torch.zeros(0, dtype=torch.int64)
        """(N,) the samples' places in the training split."""
        self.counts = True
        """False where the samples only stand in for an empty share."""
        self.serial = 0
        """Rises with every batch."""

    def begin(self, batch: Batch, step: int = 0) -> None:
        """Take note of the next batch, and of the optimizer step it is for, before it goes through the network."""
        self.epoch = batch.epoch
        self.step = step
        self.indices = batch.indices
        self.counts = batch.weight != 0
        self.serial += 1
