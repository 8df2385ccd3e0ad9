"""A moving average of the weights beside the weights: a second network that is never trained, and is the one that is scored.

It is part of the task's own state, so each checkpoint holds it, and a resumed training goes on with the same bits. Each
worker computes it from weights that are the same on all of them; nothing is sent.
"""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.tasks.train_config import EmaConfig


def averaged_copy(network: nn.Module) -> nn.Module:
    """Return a network of the same weights that scores, and that no optimizer changes."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay_at(step: int, decay: float) -> float:
    """Return the share of the average that the update after optimizer step `step`, from 1, leaves.

    After step 1 it is 0, so the average begins with trained weights and needs no correction for its beginning. It then
    rises such that about the last tenth of all steps counts, up to `decay`.
    """
    return min(decay, (step - 1) / (step + 9))


class Averaging(pl.Callback):
    """Updates the average after each optimizer step.

    Running statistics of batch normalisation are averaged as the weights are. Those of the weights as they are now would not
    fit the average; measuring them anew would take passes over the training split before each validation.
    """

    def __init__(self, config: EmaConfig, micro_batches: int) -> None:
        """Prepare it.

        Args:
            config: the decay.
            micro_batches: passes in an optimizer step.
        """
        self.decay = config.decay
        self.micro_batches = micro_batches

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        live, averaged = (_tensors(network) for network in (pl_module.network, pl_module.averaged))  # type: ignore[arg-type]
        numbers = [name for name, tensor in live.items() if tensor.is_floating_point()]
        counts = [name for name in live if name not in set(numbers)]
        self.live, self.averaged = ([tensors[name] for name in numbers] for tensors in (live, averaged))
        self.counts, self.averaged_counts = ([tensors[name] for name in counts] for tensors in (live, averaged))

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.micro_batches:
            return
        share = 1 - decay_at(trainer.global_step, self.decay)
        torch._foreach_lerp_(self.averaged, self.live, share)
        if self.counts:
            torch._foreach_copy_(self.averaged_counts, self.counts)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network, the tensors themselves."""
    return {name: tensor.detach() for name, tensor in network.state_dict(keep_vars=True).items()}
