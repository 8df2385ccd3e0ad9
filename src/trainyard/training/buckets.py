"""One order in which gradients are added up, from the first step after a restart on.

DistributedDataParallel joins gradients into buckets, and joins them anew, in the order in which they came, after its first
step. Three workers or more add each part of a bucket in another order, so that the same gradient has another place and other
last bits. Two add a + b or b + a, which is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch

from trainyard.data.batches import Batch
from trainyard.training import share
from trainyard.training.under_way import UnderWay


def settle(trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, under_way: UnderWay) -> None:
    """Let the buckets be as they stay, by a pass whose gradients are thrown away; all workers must call it together."""
    if share.workers() <= 2:
        return
    moved = trainer.strategy.batch_to_device(batch)
    with _unchanged(module):
        under_way.begin(moved)
        trainer.strategy.training_step(moved, 0).backward()  # type: ignore[union-attr]
        module.augment.problem = ""  # type: ignore[union-attr]
    for optimizer in trainer.optimizers:
        optimizer.zero_grad()


@contextmanager
def _unchanged(module: pl.LightningModule) -> Iterator[None]:
    """Give statistics and sums back as they were."""
    tensors = [*module.network.buffers(), module.train_loss.mean_value, module.train_loss.weight]  # type: ignore[union-attr]
    before = [tensor.clone() for tensor in tensors]
    yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
