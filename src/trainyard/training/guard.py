"""The callback that keeps an attempt from writing what a later one has taken over."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl

from trainyard.errors import ServiceError
from trainyard.training.fence import Fence
from trainyard.training.store import FolderStore
from trainyard.training.timing import FENCE_REMOTE_SECONDS, FENCE_SECONDS


class Guard(pl.Callback):
    """Claims a training's checkpoints for this attempt, and ends the attempt once another has claimed it."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.looked = 0.0
        self.seconds = FENCE_SECONDS if isinstance(fence.store, FolderStore) else FENCE_REMOTE_SECONDS

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.fence.claim()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.is_global_zero and time.monotonic() - self.looked >= self.seconds:
            self._check()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Comes before the checkpoint of the epoch is written.
        if trainer.is_global_zero:
            self._check()

    def _check(self) -> None:
        with suppress(ServiceError, OSError):
            # A store that is away for a moment is asked again; a checkpoint cannot be written there meanwhile either.
            self.fence.check()
        self.looked = time.monotonic()
