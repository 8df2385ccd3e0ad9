"""An LSTM that reads the context of a series once and gives all steps of the horizon at once (direct forecasting).

Taieb 2012, doi:10.1016/j.eswa.2012.01.039, compares this with feeding forecasts back, where errors add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainyard.models.lstm import LSTM
from trainyard.models.lstm_config import LSTMConfig


class Forecaster(nn.Module):
    """Context to horizon, standardised; with residual: last, the change from the context's last step."""

    def __init__(self, config: LSTMConfig, num_features: int, num_targets: int, horizon: int) -> None:
        super().__init__()
        self.residual = config.residual
        self.shape = (horizon, num_targets)
        self.network = LSTM(config, horizon * num_targets, num_features=num_features)
        if config.residual == "last":
            # Training starts at the naive forecast, which is hard to beat, instead of at random numbers.
            nn.init.zeros_(self.network.head.weight)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map values (N, T, F), targets first, and lengths (N,) int64 to the forecast (N, horizon, D)."""
        if self.residual == "none":
            plain: Tensor = self.network(values, lengths).unflatten(1, self.shape)
            return plain
        last = values.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, values.shape[2]))
        change: Tensor = self.network(values - last, lengths).unflatten(1, self.shape)
        return change + last[:, :, : self.shape[1]]


class RawForecaster(nn.Module):
    """A forecaster behind the scaler of its training data: in and out in the columns' own units."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], num_targets: int) -> None:
        super().__init__()
        self.network = network
        self.num_targets = num_targets
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map raw values (N, T, F), targets first, and lengths (N,) int64 to the raw forecast (N, horizon, D)."""
        forecast: Tensor = self.network((values - self.mean) / self.std, lengths)
        return forecast * self.std[: self.num_targets] + self.mean[: self.num_targets]
