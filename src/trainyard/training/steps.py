"""Lightning's loop over an epoch's batches, without what no training here has use for.

Lightning asks before and after each part of a step for hooks, profilers, loggers, closures and results of `self.log`; of two
workers it lets one tell the other at each step whether a signal came. Here the callbacks that listen are found once an epoch,
and what is left of a step is: batch, forward, backward, optimizer, schedule. What is computed, and in which order, is the same,
and so is all that a checkpoint holds; `tests/training/test_steps.py` trains both ways and compares every bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from trainyard.data.batches import Batch

Hook = Callable[..., Any]


class StepLoop(_TrainingEpochLoop):
    """The steps of an epoch."""

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        module = trainer.lightning_module
        self._module = module
        self._optimizer = trainer.optimizers[0]
        self._trained = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        self._schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._device = trainer.strategy.root_device
        self._starts = listening(trainer, "on_train_batch_start")
        self._before_backward = listening(trainer, "on_before_backward")
        self._before_step = listening(trainer, "on_before_optimizer_step")
        self._ends = listening(trainer, "on_train_batch_end")

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Do one step. The first one after a restart, and accumulated pieces of one, are left to Lightning."""
        trainer = self.trainer
        if self.restarting or trainer.accumulate_grad_batches > 1:
            super().advance(data_fetcher)
            return
        progress, optimization = self.batch_progress, self.automatic_optimization.optim_progress.optimizer
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = on_device(batch, self._device)
        progress.increment_ready()
        for hook in self._starts:
            hook(trainer, self._module, batch, batch_idx)
        progress.increment_started()
        optimization.step.increment_ready()
        loss = cast(torch.Tensor, trainer.strategy.training_step(batch, batch_idx))
        optimization.zero_grad.increment_ready()
        optimization.zero_grad.increment_started()
        # What the optimizer's own function does, which takes longer to get there than it takes.
        for parameter in self._trained:
            parameter.grad = None
        optimization.zero_grad.increment_completed()
        for hook in self._before_backward:
            hook(trainer, self._module, loss)
        loss.backward()  # type: ignore[no-untyped-call]
        for hook in self._before_step:
            hook(trainer, self._module, self._optimizer)
        self._optimizer.step()
        optimization.step.increment_completed()
        progress.increment_processed()
        for schedule in self._schedules:
            self.scheduler_progress.increment_ready()
            schedule.step()
            self.scheduler_progress.increment_completed()
        outputs = {"loss": loss.detach()}
        for hook in self._ends:
            hook(trainer, self._module, outputs, batch, batch_idx)
        progress.increment_completed()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        if self.batch_progress.is_last_batch or self.restarting or self.trainer.accumulate_grad_batches > 1:
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1

    def _broadcast_sigterm_tensor(self) -> None:
        """Say nothing to the other workers: whether to stop is what they agree on with `pace.py`, every half second."""


def take_steps(trainer: pl.Trainer) -> None:
    """Give a trainer this loop, before it trains."""
    given = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = StepLoop(trainer, min_steps=given.min_steps, max_steps=given.max_steps)


def listening(trainer: pl.Trainer, hook: str) -> list[Hook]:
    """Return the hook of those callbacks, in their order, that do something in it."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [
        getattr(callback, hook) for callback in callbacks if getattr(type(callback), hook) is not getattr(pl.Callback, hook)
    ]


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch whose tensors are where the network is; nothing is copied of what is there."""
    if device.type == "cpu":
        return batch

    def there(tensor: torch.Tensor) -> torch.Tensor:
        # As Lightning does: the host waits for no copy to a GPU.
        return tensor.to(device, non_blocking=device.type == "cuda")

    inputs = tuple(there(tensor) for tensor in batch.inputs)
    return batch._replace(inputs=inputs, targets=there(batch.targets), indices=there(batch.indices))
