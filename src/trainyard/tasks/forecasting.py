"""Forecasting: how do the next steps of a series go on."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.tasks.augmentation import Augment
from trainyard.tasks.losses import add_up, exact_mean, sample_losses, share_of_loss
from trainyard.tasks.optimization import build_optimizer, build_schedule
from trainyard.tasks.train_config import TrainConfig


class Forecasting(pl.LightningModule):
    """Squared or absolute error, MSE and MAE around a network that gives a standardised forecast (N, horizon, D)."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        total_steps: int,
        augment: Augment,
        averaged: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = averaged
        self.config = config
        self.total_steps = total_steps
        self.augment = augment
        self.train_loss = exact_mean()
        self.val_loss = exact_mean()
        self.val_mse = exact_mean()
        self.val_mae = exact_mean()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self.augment(batch)
        losses = sample_losses(self.network(*batch.inputs), batch.targets, self.config, None)
        if batch.weight > 0:
            add_up(self.train_loss, losses.detach())
        return share_of_loss(losses, batch.weight)

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not batch.weight:
            return
        forecast = (self.averaged or self.network)(*batch.inputs).float()
        errors = (forecast - batch.targets).flatten(1)
        self.val_loss.update(sample_losses(forecast, batch.targets, self.config, None))
        self.val_mse.update(errors.square().mean(dim=1))
        self.val_mae.update(errors.abs().mean(dim=1))

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.val_loss)
        self.log("val/mse", self.val_mse)
        self.log("val/mae", self.val_mae)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.network, self.config)
        schedule = build_schedule(optimizer, self.config, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
