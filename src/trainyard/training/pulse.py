"""A worker's pulse: a callback that notes what the training does, and a thread that tells the driver and listens to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from trainyard.training.beat import Beat, Progress
from trainyard.training.timing import BEAT_SECONDS, LISTEN_SECONDS, SPARE_AFTER_SECONDS, SPARE_WORTH_SECONDS


class Pulse(pl.Callback):
    """Notes each phase of the training of this worker."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.began: float | None = None
        self.left_seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began, self.first_step = time.monotonic(), trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._enter("between steps", trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self._enter("forward", trainer)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._enter("backward", trainer)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        self._enter("optimizer", trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._enter("between steps", trainer)
        if self.began is not None:
            done = max(1, trainer.global_step - self.first_step)
            steps = float(trainer.num_training_batches) // trainer.accumulate_grad_batches
            left = (trainer.max_epochs or 0) * steps - trainer.global_step
            self.left_seconds = (time.monotonic() - self.began) / done * left

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._enter("validation", trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._enter("epoch end", trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._enter("saving", trainer)

    def _enter(self, phase: str, trainer: pl.Trainer) -> None:
        self.progress.enter(phase, trainer.current_epoch, trainer.global_step)

    def wants_spare(self) -> bool:
        """Say whether the training goes on long enough for a spare process to be worth its start."""
        began = self.began
        return (
            began is not None and time.monotonic() - began >= SPARE_AFTER_SECONDS and self.left_seconds >= SPARE_WORTH_SECONDS
        )


class Speaker:
    """The thread that speaks for a worker, and sets `stop` when the driver, or the machine, wants an end."""

    def __init__(
        self,
        pulse: Pulse,
        *,
        say: Callable[[Beat], None],
        listen: Callable[[], bool],
        spare: Callable[[], object],
        stop: threading.Event,
    ) -> None:
        self.pulse, self.say, self.listen, self.spare, self.stop = pulse, say, listen, spare, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="pulse", daemon=True)

    def __enter__(self) -> Speaker:
        # Before anything is trained: a worker that hangs and was never heard is unknown, and another one would be blamed.
        self._tell()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.pulse.progress.enter("over", *self.pulse.progress.at[:2])
        self._tell()

    def _tell(self) -> None:
        with suppress(Exception):
            self.say(self.pulse.progress.beat())

    def _speak(self) -> None:
        spoken, prepared = -BEAT_SECONDS, False
        while not self._over.wait(LISTEN_SECONDS):
            try:
                if not self.stop.is_set() and self.listen():
                    self.stop.set()
                if time.monotonic() - spoken >= BEAT_SECONDS:
                    spoken = time.monotonic()
                    self.say(self.pulse.progress.beat())
                if not prepared and self.pulse.wants_spare():
                    prepared = True
                    self.spare()
            except Exception as error:  # Ray's head may be away for a while, and the training needs it for nothing
                logging.getLogger(__name__).info("not heard: %s", error)
