"""An LSTM that reads the context of a series once and gives all steps of the horizon at once (direct forecasting).

Taieb 2012, doi:10.1016/j.eswa.2012.01.039, compares this with feeding forecasts back, where errors add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainyard.models.lstm import LSTM
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec


class Forecaster(nn.Module):
    """Context to horizon, standardised; with residual: last, the change from the context's last step."""

    def __init__(self, config: LSTMConfig, spec: InputSpec) -> None:
        super().__init__()
        horizon, num_targets, num_features = spec.horizon, len(spec.classes), spec.num_features
        self.context_length = spec.context_length
        self.residual = config.residual
        self.shape = (horizon, num_targets)
        self.apart = config.targets == "apart"
        if self.apart:
            self.network = LSTM(config, horizon, num_features=num_features - num_targets + 1)
        else:
            self.network = LSTM(config, horizon * num_targets, num_features=num_features)
        if config.residual == "last":
            # Training starts at the naive forecast, which is hard to beat, instead of at random numbers.
            nn.init.zeros_(self.network.head.weight)
        self.autoregression = nn.Linear(spec.context_length, horizon, bias=False) if config.autoregression else None
        if self.autoregression is not None:
            nn.init.zeros_(self.autoregression.weight)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map values (N, T, F), targets first, and lengths (N,) int64 to the forecast (N, horizon, D)."""
        if self.residual == "none":
            return self._read(values, lengths)
        last = values.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, values.shape[2]))
        return self._read(values - last, lengths) + last[:, :, : self.shape[1]]

    def _read(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Map values (N, T, F) and lengths (N,) to what cells and linear map make of them, (N, horizon, D)."""
        read = self._apart(values, lengths) if self.apart else self.network(values, lengths).unflatten(1, self.shape)
        if self.autoregression is not None:
            read = read + self.autoregression(self._ends(values, lengths).transpose(1, 2)).transpose(1, 2)
        return read

    def _ends(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the last steps of the targets (N, context_length, D), zeros before the first one."""
        back = torch.arange(self.context_length, 0, -1, device=values.device)
        steps = lengths.unsqueeze(1) - back
        targets = values[:, :, : self.shape[1]]
        ends = targets.gather(1, steps.clamp(min=0).unsqueeze(2).expand(-1, -1, self.shape[1]))
        return ends.masked_fill((steps < 0).unsqueeze(2), 0.0)

    def _apart(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Let the network read each target by itself: as a batch of N * D series."""
        targets = self.shape[1]
        own = values[:, :, :targets].transpose(1, 2).unsqueeze(3)
        shared = values[:, :, targets:].unsqueeze(1).expand(-1, targets, -1, -1)
        series = torch.cat((own, shared), dim=3).flatten(0, 1)
        repeated = lengths.unsqueeze(1).expand(-1, targets).flatten()
        apart: Tensor = self.network(series, repeated).unflatten(0, (-1, targets))
        return apart.transpose(1, 2)


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
