"""The callback that watches a training: seeds each step, refuses what is not a number, keeps checkpoints and records."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor
from torch.optim import Optimizer

from trainyard.data.batches import Batch, TrainBatches
from trainyard.errors import InputError, Interrupted, MachineError
from trainyard.tasks.primary import merit
from trainyard.tasks.train_config import TrainConfig
from trainyard.training import checkpoint, spool

RECORD_SECONDS = 1.0
"""At least this long between two records within an epoch."""


class Keeper(Checkpoint):
    """Everything that a training leaves behind, and the rules by which it ends.

    Its state is the history, one mapping of metrics an epoch, so a resumed training ends as an uninterrupted one does.
    """

    def __init__(
        self,
        *,
        config: TrainConfig,
        batches: TrainBatches,
        primary: str,
        fingerprint: str,
        folder: Path,
        spool_path: Path,
        stop: threading.Event,
    ) -> None:
        self.config = config
        self.batches = batches
        self.primary = primary
        self.fingerprint = fingerprint
        self.folder = folder
        self.spool_path = spool_path
        self.stop = stop
        self.history: list[dict[str, float]] = []
        self.earlier_seconds = 0.0
        self.gradient_norm = torch.zeros(())
        self.norms: list[Tensor] = []
        self.loss = torch.zeros(())
        self.resumed = False

    # What is kept in a checkpoint.

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.earlier_seconds = self.history[-1]["seconds"]
        self.resumed = True

    # Lightning's hooks, in its order.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self.epoch_started = self.recorded = time.monotonic()
        self.start_step = trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.epoch = trainer.current_epoch
        self.epoch_started = time.monotonic()
        self.norms.clear()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        if self.stop.is_set():
            raise Interrupted("training was told to stop; run the same command again to continue")
        # Dropout is a function of (seed, step, rank), so a resumed step draws what it would have drawn.
        torch.manual_seed(_mix(self.config.seed, trainer.current_epoch, batch_idx, trainer.global_rank))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.loss = outputs["loss"].detach()
        now = time.monotonic()
        if trainer.is_global_zero and now - self.recorded >= RECORD_SECONDS:
            values = {"train/step_loss": float(self.loss), "gradient_norm": float(self.gradient_norm)}
            with suppress(OSError):
                # A full disk ends the training with its epoch, where all workers can leave at the same point.
                self._record(trainer, "progress", values)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        # After the reduction over workers, so all of them see the same norm, and stop at the same step.
        limit = self.config.gradient_clip or math.inf
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(pl_module.parameters(), limit)
        if not torch.isfinite(self.gradient_norm):
            raise self._diverged(trainer)
        self.norms.append(self.gradient_norm)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _average_buffers(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = self._epoch_values(trainer)
        self.history.append(values)
        merits = [merit(self.primary, past[f"val/{self.primary}"]) for past in self.history]
        stale = epochs_without_gain(merits)
        patience = self.config.early_stopping_patience
        finished = trainer.current_epoch + 1 == self.config.epochs or (patience is not None and stale >= patience)
        problem = ""
        if trainer.is_global_zero:
            facts = checkpoint.Facts(
                fingerprint=self.fingerprint,
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                ended=True,
                score=merits[-1],
                finished=finished,
            )
            problem = self._keep(trainer, facts, values)
        # Every worker must leave at the same point, or the others wait for it in the next reduction.
        if problem := trainer.strategy.broadcast(problem):
            raise MachineError(problem)
        trainer.should_stop = trainer.should_stop or finished

    def _keep(self, trainer: pl.Trainer, facts: checkpoint.Facts, values: dict[str, float]) -> str:
        """Write checkpoint and record on rank 0; return what went wrong, or nothing."""
        try:
            # Lightning's own state, without its writer, which neither flushes nor hashes.
            state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            checkpoint.write(self.folder, facts, lambda path: checkpoint.save_state(state, path))
            checkpoint.prune(checkpoint.scan(self.folder, self.fingerprint)[0])
            self._record(trainer, "epoch", values)
        except OSError as error:
            return (
                f"{self.folder}: the checkpoint of epoch {facts.epoch + 1} could not be written ({error}); the one before "
                "it is whole: make room there, or writable, then run the same command again to continue"
            )
        return ""

    def _epoch_values(self, trainer: pl.Trainer) -> dict[str, float]:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        now = time.monotonic()
        return {
            **values,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "gradient_norm": float(torch.stack(self.norms).mean()),
            "throughput/samples_per_s": len(self.batches.split) / max(now - self.epoch_started, 1e-9),
            "seconds": self.earlier_seconds + now - self.started,
            "step": float(trainer.global_step),
        }

    def _record(self, trainer: pl.Trainer, kind: Any, values: dict[str, float]) -> None:
        self.recorded = time.monotonic()
        spent = self.recorded - self.started
        done = max(1, trainer.global_step - self.start_step)
        left = spent / done * (self.config.epochs * self.batches.steps - trainer.global_step)
        record = spool.Record(
            kind=kind,
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            seconds=self.earlier_seconds + spent,
            left_seconds=left,
            values=values,
            resumed=self.resumed,
        )
        self.resumed = False
        spool.append(self.spool_path, record)

    def _diverged(self, trainer: pl.Trainer) -> InputError:
        epoch = trainer.current_epoch
        step = trainer.global_step - epoch * self.batches.steps
        samples = self.batches.steps_of(epoch)[step]
        shown = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
        kept = f"epoch {epoch} is kept" if self.history else "no epoch was finished"
        return InputError(
            f"training stopped: loss {float(self.loss):.4g} before, gradient norm {float(self.gradient_norm)} at epoch "
            f"{epoch + 1}, step {trainer.global_step + 1}, training samples {shown} ({kept}); "
            f"lower train.learning_rate ({self.config.learning_rate:g}), set train.gradient_clip, or look at these samples"
        )


def epochs_without_gain(scores: list[float]) -> int:
    """Return how many epochs have passed since the best score, which is the highest, was reached first."""
    best = max(range(len(scores)), key=lambda epoch: (-math.inf if math.isnan(scores[epoch]) else scores[epoch], -epoch))
    return len(scores) - 1 - best


def _mix(*numbers: int) -> int:
    """Return one well-spread 63-bit seed for a tuple of numbers."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _average_buffers(module: pl.LightningModule) -> None:
    """Give all workers the mean of their running statistics, so they score, and save, the same network."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    for buffer in module.network.buffers():  # type: ignore[union-attr]
        if buffer.is_floating_point():
            torch.distributed.all_reduce(buffer)
            buffer /= torch.distributed.get_world_size()
