"""When a network is compiled: torch writes code for it, which takes its time, and makes each step after it shorter.

What is compiled is the pass over a whole batch of training. A batch that is smaller, and validation, would each be compiled
anew; they run as they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

from trainyard.data.batches import Batch, TrainBatches
from trainyard.training.global_norm import GlobalBatchNorm2d
from trainyard.training.hardware import answers_late
from trainyard.training.sample_dropout import SampleDropout

COMPILE_SECONDS = 60.0
"""What compiling may take; a small network takes half of it on two processors."""
GAIN = 0.15
"""Share of a step that is counted on: half of what torch's own paper measures for training (Ansel 2024, "PyTorch 2": 1.41
times as fast in the geometric mean), as these networks are small."""
WARM_STEPS = 5
TIMED_STEPS = 20
COMPILERS = ("c++", "g++", "clang++")


def has_compiler() -> bool:
    """Say whether there is a compiler for the code that torch writes."""
    return any(shutil.which(name) for name in COMPILERS)


def pays_back(step_seconds: float, steps_left: int) -> bool:
    """Say whether compiling costs less than it saves in the steps that are left."""
    return step_seconds * steps_left * GAIN > COMPILE_SECONDS


def install(
    wanted: Literal["no", "yes", "if it pays"],
    network: nn.Module,
    batches: TrainBatches,
    total_steps: int,
    say: Callable[[str], None],
) -> list[Compiling]:
    """Return the callback that does what is wanted; none where that is nothing."""
    if wanted == "no":
        return []
    full = -(-batches.batch_size // (batches.world_size * batches.micro_batches))
    return [Compiling(network, at_once=wanted == "yes", full_batch=full, total_steps=total_steps, say=say)]


class Compiling(pl.Callback):
    """Compiles the network before the first step, or once some steps have been timed and those left pay it back."""

    def __init__(
        self, network: nn.Module, *, at_once: bool, full_batch: int, total_steps: int, say: Callable[[str], None]
    ) -> None:
        """Decide at once, or watch.

        Args:
            network: the one.
            at_once: whatever it costs.
            full_batch: samples that this worker's pass over a whole batch has.
            total_steps: optimizer steps of the training.
            say: tells the user what was decided.
        """
        self.network, self.full_batch, self.total_steps, self.say = network, full_batch, total_steps, say
        self.seen = 0
        self.decided = self.compiled = False
        if at_once:
            self._compile()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        if self.compiled:
            torch.compiler.set_stance("default" if len(batch.indices) == self.full_batch else "force_eager")
        elif not self.decided:
            self._time(trainer)

    def on_validation_start(self, *_: Any) -> None:
        if self.compiled:
            torch.compiler.set_stance("force_eager")

    def teardown(self, *_: Any, **__: Any) -> None:
        if self.compiled:
            torch.compiler.set_stance("default")

    def _time(self, trainer: pl.Trainer) -> None:
        self.seen += 1
        if self.seen not in (WARM_STEPS, WARM_STEPS + TIMED_STEPS):
            return
        device = trainer.strategy.root_device
        if answers_late(device):
            torch.get_device_module(device).synchronize()
        if self.seen == WARM_STEPS:
            self.began = time.monotonic()
            return
        seconds = (time.monotonic() - self.began) / TIMED_STEPS
        left = self.total_steps - trainer.global_step
        # All workers do as rank 0 found.
        self.decided, wanted = True, bool(trainer.strategy.broadcast(pays_back(seconds, left)))
        self.say(f"{'compiled' if wanted else 'not compiled'}: {left:,} steps of {1000 * seconds:.1f} ms are left")
        if wanted:
            self._compile()

    def _compile(self) -> None:
        for layer in self.network.modules():
            if isinstance(layer, SampleDropout | GlobalBatchNorm2d):
                # They look at which samples a batch has, so each step would be compiled anew.
                layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[method-assign, no-untyped-call]
        self.network.compile()
        self.decided = self.compiled = True
