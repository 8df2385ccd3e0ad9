"""What all tasks train alike: the loss of a batch, its share in a gang of workers, optimizer and schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.tasks.augmentation import Augment
from trainyard.tasks.losses import add_up, exact_mean, sample_losses, share_of_loss
from trainyard.tasks.optimization import build_optimizer, build_schedule
from trainyard.tasks.train_config import TrainConfig


class Task(pl.LightningModule, ABC):
    """A network, the loss by which it learns, and what is scored on the validation split: `score` and `log_scores` say what."""

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        total_steps: int,
        augment: Augment,
        class_weights: Tensor | None = None,
        averaged: nn.Module | None = None,
    ) -> None:
        """Take what is trained and how.

        Args:
            network: what is trained.
            config: how.
            total_steps: optimizer steps of the whole training.
            augment: changes the batches of the training split.
            class_weights: (K,), or None where all classes count alike.
            averaged: the network with averaged weights, which is scored in its place.
        """
        super().__init__()
        self.network = network
        self.averaged = averaged
        self.config = config
        self.total_steps = total_steps
        self.augment = augment
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.train_loss = exact_mean()
        self.val_loss = exact_mean()

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> None:
        """Count the outputs for a batch of the validation split."""

    @abstractmethod
    def log_scores(self) -> None:
        """Log what was counted over the validation split, as val/..."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self.augment(batch)
        losses = sample_losses(self.network(*batch.inputs), batch.targets, self.config, self.class_weights)
        if batch.weight > 0:
            add_up(self.train_loss, losses.detach())
        return share_of_loss(losses, batch.weight)

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not batch.weight:
            return
        outputs = (self.averaged or self.network)(*batch.inputs)
        self.val_loss.update(sample_losses(outputs, batch.targets, self.config, self.class_weights))
        self.score(outputs, batch.targets)

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.val_loss)
        self.log_scores()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.network, self.config)
        schedule = build_schedule(optimizer, self.config, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
