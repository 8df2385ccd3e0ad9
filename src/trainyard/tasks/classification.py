"""Classification: which class does an image or a text belong to."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainyard.data.batches import Batch
from trainyard.tasks.augmentation import Augment
from trainyard.tasks.losses import add_up, exact_mean, sample_losses, share_of_loss
from trainyard.tasks.optimization import build_optimizer, build_schedule
from trainyard.tasks.train_config import TrainConfig


class Classification(pl.LightningModule):
    """Cross-entropy (or squared error), accuracy and macro F1 around a network that gives logits (N, num_classes)."""

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        config: TrainConfig,
        total_steps: int,
        augment: Augment,
        class_weights: Tensor | None = None,
        averaged: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = averaged
        self.config = config
        self.total_steps = total_steps
        self.augment = augment
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.train_loss = exact_mean()
        self.val_loss = exact_mean()
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_macro_f1 = MulticlassF1Score(num_classes, average="macro")

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
        logits = (self.averaged or self.network)(*batch.inputs)
        self.val_loss.update(sample_losses(logits, batch.targets, self.config, self.class_weights))
        self.val_accuracy.update(logits, batch.targets)
        self.val_macro_f1.update(logits, batch.targets)

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.val_loss)
        self.log("val/accuracy", self.val_accuracy)
        self.log("val/macro_f1", self.val_macro_f1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.network, self.config)
        schedule = build_schedule(optimizer, self.config, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
