"""Dropout for recurrent networks, where a mask drawn anew at every step would wash out what the cells remember.

A training puts layers in their places that draw as functions of the sample or the step; here they draw from torch's state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SequenceDropout(nn.Dropout):
    """Zero the same features of a sequence at all its steps while training (Gal 2016, arXiv:1512.05287)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, T, F) to the same shape; others (N, F) as dropout does."""
        if features.ndim < 3 or not self.training:
            return super().forward(features)
        return features * F.dropout(features.new_ones(len(features), 1, features.shape[2]), self.p)


class WeightDropout(nn.Dropout):
    """Zero weights for a whole batch while training, instead of features of each sample (Wan 2013; Merity 2017)."""


class WeightDroppedLSTM(nn.LSTM):
    """One layer and direction whose weights from a step to the next are partly left out of each pass of training.

    The same ones at every step of a sequence: AWD-LSTM of Merity 2017, arXiv:1708.02182.
    """

    def __init__(self, in_size: int, hidden_size: int, share: float) -> None:
        super().__init__(in_size, hidden_size, batch_first=True)
        self.weight_dropout = WeightDropout(share)

    def forward(  # type: ignore[override]
        self, features: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map features (N, T, F) to outputs (N, T, hidden_size), and the last output and cell state."""
        if not self.training or hx is not None:
            return super().forward(features, hx)
        start = features.new_zeros(1, len(features), self.hidden_size)
        weights = [
            self.weight_ih_l0,
            self.weight_dropout(self.weight_hh_l0),
            self.bias_ih_l0,
            self.bias_hh_l0,
        ]
        outputs, last, cells = torch.lstm(features, (start, start), weights, True, 1, 0.0, True, False, True)
        return outputs, (last, cells)
