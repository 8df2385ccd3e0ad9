"""The callback that watches a training: seeds each step, refuses what is not a number, keeps checkpoints and records."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor
from torch.optim import Optimizer

from trainyard.data.batches import Batch, TrainBatches
from trainyard.errors import InputError, Interrupted, MachineError, TrainyardError
from trainyard.tasks.primary import merit
from trainyard.tasks.train_config import TrainConfig
from trainyard.training import share
from trainyard.training.buckets import settle
from trainyard.training.checkpoint import Facts
from trainyard.training.hardware import answers_late, seed_draws
from trainyard.training.pace import Pace, Verdict
from trainyard.training.recorder import Recorder
from trainyard.training.saver import Saver
from trainyard.training.trail import Crash, Left, Trail, explain, look_back, shown
from trainyard.training.under_way import UnderWay

LOOK_STEPS = 50
"""Steps between two looks at whether gradients are numbers, where a look would wait for a GPU."""


class Keeper(Checkpoint):
    """Everything that a training leaves behind, and the rules by which it ends.

    Its state is the history, one mapping of metrics an epoch, and what the epoch under way has summed up, so a resumed
    training ends as an uninterrupted one does.
    """

    def __init__(
        self,
        *,
        config: TrainConfig,
        batches: TrainBatches,
        primary: str,
        fingerprint: str,
        saver: Saver | None,
        recorder: Recorder,
        trail: Trail,
        under_way: UnderWay,
        stop: threading.Event,
        checkpoint_seconds: float | None,
        checkpoint_steps: int | None,
    ) -> None:
        self.config = config
        self.batches = batches
        self.primary = primary
        self.fingerprint = fingerprint
        self.saver = saver
        """Of rank 0."""
        self.recorder = recorder
        self.trail = trail
        self.under_way = under_way
        self.stop = stop
        self.checkpoint_seconds = checkpoint_seconds
        self.checkpoint_steps = checkpoint_steps
        self.history: list[dict[str, float]] = []
        self.gradient_norm = torch.zeros(())
        self.norms: list[Tensor] = []
        """Of the gradients of the epoch under way, a number each step, on the device."""
        self.parameters: list[Tensor] = []
        self.loss = torch.zeros(())
        self.shares: list[share.Share] = []
        """Of each worker, while the state is saved or restored."""

    # What is kept in a checkpoint.

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "norms": torch.stack(self.norms) if self.norms else torch.zeros(0),
            "shares": self.shares,
            "micro_batches": self.batches.micro_batches,
            "seconds": self.recorder.seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.norms = list(state_dict["norms"])
        self.shares = state_dict["shares"]
        self.recorder.earlier_seconds = state_dict["seconds"]
        self.recorder.resumed = True

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, state: dict[str, Any]) -> None:
        # Lightning counts passes; another number of workers may need more of them, or fewer, for the same step.
        before = state["callbacks"]["Keeper"]["micro_batches"]
        current = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        passes = current["ready"] // before * self.batches.micro_batches
        behind = current["ready"] - current["completed"]
        current.update(ready=passes, started=passes, processed=passes, completed=passes - behind)

    # Lightning's hooks, in its order.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look_back(trainer)
        self.parameters = list(pl_module.parameters())
        self.device = trainer.strategy.root_device
        self.epoch_seconds = 0.0
        self.late = answers_late(self.device)
        self.spoilt = torch.zeros((), device=self.device)
        self.norms = [norm.to(self.device) for norm in self.norms]
        self.epoch_started = time.monotonic()
        self.batches.epoch = trainer.current_epoch
        settle(trainer, pl_module, next(self.batches.from_step(0)), self.under_way)
        if self.shares:
            share.restore(pl_module, self.shares, trainer.global_rank)
            self.shares = []
        self.recorder.begin(trainer.global_step, self.history if trainer.is_global_zero else [])
        self.pace = Pace(
            seconds=self.checkpoint_seconds,
            steps=self.checkpoint_steps,
            stop=self.stop,
            broadcast=trainer.strategy.broadcast if share.workers() > 1 else None,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.epoch = trainer.current_epoch
        self.epoch_started = time.monotonic()
        self.norms.clear()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        step = batch_idx // self.batches.micro_batches
        self.trail.at(trainer.current_epoch, step)
        self.under_way.begin(batch, step)
        # What a layer draws from torch is a function of (seed, step, rank), so a resumed step draws what it would have drawn.
        seed_draws(self.device, _mix(self.config.seed, trainer.current_epoch, batch_idx, trainer.global_rank))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        # After the reduction over workers, so all of them see the same norm, and stop at the same step.
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        # torch.nn.utils.get_total_norm without its search for devices and types, of which there is one each.
        self.gradient_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_clip, self.gradient_norm)
        self.norms.append(self.gradient_norm)
        if not self.late:
            if not math.isfinite(float(self.gradient_norm)):
                raise self._diverged(trainer, pl_module, len(self.norms) - 1)
            return
        # The device itself leaves the weights as they are in this step, and in all after it until the host looks.
        self.spoilt = torch.maximum(self.spoilt, (~torch.isfinite(self.gradient_norm)).float())
        optimizer.found_inf = self.spoilt  # type: ignore[attr-defined]
        if len(self.norms) % LOOK_STEPS == 0 or len(self.norms) == self.batches.steps:
            self._look_at_gradients(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.loss = outputs["loss"].detach()
        passes = batch_idx + 1
        if passes % self.batches.micro_batches:
            return
        if trainer.is_global_zero:
            self.recorder.progress(
                trainer.current_epoch,
                trainer.global_step,
                lambda: {"train/step_loss": float(self.loss), "gradient_norm": float(self.gradient_norm)},
            )
        if passes == len(self.batches):
            # Validation follows, and then a checkpoint.
            return
        verdict = self.pace.verdict(trainer.global_step)
        if verdict is not Verdict.GO_ON:
            self._save_within_epoch(trainer, pl_module)
        if verdict is Verdict.STOP:
            if self.saver is not None:
                self.saver.drain()
            raise Interrupted("training was told to stop; run the same command again to continue")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch_seconds = time.monotonic() - self.epoch_started
        share.average_statistics(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = self._epoch_values(trainer)
        self.history.append(values)
        self.norms.clear()
        merits = [merit(self.primary, past[f"val/{self.primary}"]) for past in self.history]
        stale = epochs_without_gain(merits)
        patience = self.config.early_stopping_patience
        finished = trainer.current_epoch + 1 == self.config.epochs or (patience is not None and stale >= patience)
        self._save(trainer, pl_module, merits[-1], finished)
        trainer.should_stop = trainer.should_stop or finished

    def _look_back(self, trainer: pl.Trainer) -> None:
        """Begin the trail and the records, unless the attempts before this one all ended at the same samples."""
        # No worker writes its own trail before all have read what the last attempt's left on their nodes.
        left = self._left_on_all_nodes()
        problem: TrainyardError | None = None
        attempt = ""
        if trainer.is_global_zero:
            try:
                self.recorder.recall()
                crash, attempt = look_back(self.trail.store, left, share.workers())
                problem = None if crash is None else self._explained(crash)
            except TrainyardError as error:
                problem = error
            except OSError as error:
                problem = MachineError(
                    f"{self.trail.store.address}: cannot be read ({error}); make it readable, then run again"
                )
        problem, attempt = trainer.strategy.broadcast((problem, attempt))
        if problem is not None:
            raise problem
        self.trail.begin(attempt)

    def _left_on_all_nodes(self) -> list[Left]:
        own = self.trail.left_here()
        if share.workers() == 1:
            return own
        every = [own] * share.workers()
        torch.distributed.all_gather_object(every, own)
        return [left for node in every for left in node]

    def _explained(self, crash: Crash) -> TrainyardError:
        share_of, ranks = self.batches.share_of, range(self.batches.world_size)
        return explain(crash, {rank: share_of(rank, crash.epoch, crash.step) for rank in ranks})

    # Saving.

    def _save_within_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.late:
            self._look_at_gradients(trainer, pl_module)
        self.shares = share.gather(pl_module)
        self._save(trainer, pl_module, None, False)
        self.shares = []
        self.pace.was_saved()

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule, score: float | None, finished: bool) -> None:
        if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in self.parameters]).all()):
            # Weights are the same on all workers.
            step = trainer.fit_loop.epoch_loop.batch_idx // self.batches.micro_batches
            raise self._diverged(trainer, pl_module, step)
        problem = None
        if self.saver is not None:
            facts = Facts(
                fingerprint=self.fingerprint,
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                ended=score is not None,
                score=score,
                finished=finished,
            )
            self._submit(trainer, facts)
            problem = self.saver.drain() if finished else self.saver.problem()
        # Every worker must leave at the same point, or the others wait for it in the next reduction.
        if score is not None and (problem := trainer.strategy.broadcast(problem)):
            raise problem

    def _submit(self, trainer: pl.Trainer, facts: Facts) -> None:
        # Lightning's own state, without its writer, which neither flushes nor hashes.
        state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        values = self.history[-1] if facts.ended else {}
        # On record once the checkpoint is durable, or a restart would record the epoch with another's seconds.
        then = (lambda: self.recorder.append("epoch", facts.epoch, facts.step, values)) if facts.ended else None
        if self.saver is not None:
            self.saver.submit(facts, state, then)

    def _epoch_values(self, trainer: pl.Trainer) -> dict[str, float]:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {
            **values,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "gradient_norm": float(torch.stack(self.norms).mean()),
            "throughput/samples_per_s": len(self.batches.split) / max(self.epoch_seconds, 1e-9),
            "seconds": self.recorder.seconds(),
            "step": float(trainer.global_step),
        }

    def _look_at_gradients(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse the steps since the last look if a gradient was no number; waits until the device is done with them."""
        first = max(0, len(self.norms) - LOOK_STEPS)
        for step, good in enumerate(torch.isfinite(torch.stack(self.norms[first:])).tolist(), start=first):
            if not good:
                self.gradient_norm = self.norms[step]
                raise self._diverged(trainer, pl_module, step)

    def _diverged(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> InputError:
        """Return what to tell of a step (0-based, of the epoch) whose numbers are none; all workers must call it together."""
        epoch = trainer.current_epoch
        place = f"epoch {epoch + 1}, step {epoch * self.batches.steps + step + 1}"
        last = self.saver.last() if self.saver is not None else None
        last = trainer.strategy.broadcast(last)
        problems: list[str] = [""] * share.workers()
        own: str = pl_module.augment.problem  # type: ignore[union-attr, assignment]
        if share.workers() > 1:
            torch.distributed.all_gather_object(problems, own)
        else:
            problems = [own]
        if problem := next(filter(None, problems), ""):
            return InputError(f"training stopped at {place}: {problem}")
        samples = shown(self.batches.steps_of(epoch)[step].tolist())
        kept = f"the last good checkpoint, {last}, is kept" if last else "there was no checkpoint yet"
        return InputError(
            f"training stopped: loss {float(self.loss):.4g} before, gradient norm {float(self.gradient_norm)} at {place}, "
            f"training samples {samples} ({kept}); lower train.learning_rate ({self.config.learning_rate:g}), "
            "set train.gradient_clip, or look at these samples"
        )


def epochs_without_gain(scores: list[float]) -> int:
    """Return how many epochs have passed since the best score, which is the highest, was reached first."""
    best = max(range(len(scores)), key=lambda epoch: (-math.inf if math.isnan(scores[epoch]) else scores[epoch], -epoch))
    return len(scores) - 1 - best


def _mix(*numbers: int) -> int:
    """Return one well-spread 63-bit seed for a tuple of numbers."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
