"""The callback that keeps a worker that everybody else has given up from writing over what came after it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl

from trainyard.errors import Interrupted, ServiceError
from trainyard.training.fence import Fence
from trainyard.training.store import FolderStore
from trainyard.training.timing import FENCE_REMOTE_SECONDS, FENCE_SECONDS


class Guard(pl.Callback):
    """Claims a training's checkpoints for this attempt, and ends the attempt once another has claimed it."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.looked = 0.0
        self.near = isinstance(fence.store, FolderStore)
        self.over = threading.Event()
        self.later: Interrupted | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.fence.claim()
            if not self.near:
                # An object store answers late, or not for a minute: no step waits for it.
                threading.Thread(target=self._look_now_and_then, name="guard", daemon=True).start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.is_global_zero and time.monotonic() - self.looked >= FENCE_SECONDS:
            self._check()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Comes before the checkpoint of the epoch is written.
        if trainer.is_global_zero:
            self._check()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.over.set()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.over.set()

    def _check(self) -> None:
        if self.near:
            self._look()
        self.looked = time.monotonic()
        if self.later is not None:
            raise self.later

    def _look(self) -> None:
        try:
            # A store that is away for a moment is asked again; a checkpoint cannot be written there meanwhile either.
            with suppress(ServiceError, OSError):
                self.fence.check()
        except Interrupted as error:
            self.later = error

    def _look_now_and_then(self) -> None:
        while not self.over.wait(FENCE_REMOTE_SECONDS) and self.later is None:
            self._look()
