"""Forecasting: how do the next steps of a series go on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainyard.tasks.losses import exact_mean
from trainyard.tasks.task import Task


class Forecasting(Task):
    """Squared or absolute error, MSE and MAE around a network that gives a standardised forecast (N, horizon, D)."""

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.val_mse = exact_mean()
        self.val_mae = exact_mean()

    def score(self, outputs: Tensor, targets: Tensor) -> None:
        errors = (outputs.float() - targets).flatten(1)
        self.val_mse.update(errors.square().mean(dim=1))
        self.val_mae.update(errors.abs().mean(dim=1))

    def log_scores(self) -> None:
        self.log("val/mse", self.val_mse)
        self.log("val/mae", self.val_mae)
