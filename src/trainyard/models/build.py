"""A network with its preprocessing inside: raw pixels or tokens in, logits out, the same in training and after export.

Series are standardised once, when they are packed; for export, `in_raw_units` puts that into the network, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainyard.models.cnn_config import CNNConfig
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec, check_input
from trainyard.models.unet_config import UNetConfig

ModelConfig = CNNConfig | UNetConfig | LSTMConfig


class NormalisedImages(nn.Module):
    """A network behind the normalisation that its training data asked for."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) uint8 in 0..255 to logits."""
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) uint8 as the network inside takes them."""
        return (images.float() / 255 - self.mean) / self.std


def build_network(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return an untrained network that takes `Batch.inputs`; it gives logits (N, classes) or (N, classes, H, W), or a
    standardised forecast (N, horizon, targets).

    Raises:
        InputError: the data do not suit it.
    """
    check_input(config, spec)
    num_classes = len(spec.classes)
    match config:
        case CNNConfig():
            from trainyard.models.cnn import CNN

            return NormalisedImages(CNN(config, spec.channels, num_classes), spec)
        case UNetConfig():
            from trainyard.models.unet import UNet, WithContext

            unet = UNet(config, spec.channels, num_classes)
            return NormalisedImages(unet if config.padding == "same" else WithContext(unet, config), spec)
        case LSTMConfig() if spec.kind == "forecasting":
            from trainyard.models.forecaster import Forecaster

            return Forecaster(config, spec)
        case LSTMConfig():
            from trainyard.models.lstm import LSTM

            return LSTM(config, num_classes, vocabulary_size=spec.vocabulary_size)


def in_raw_units(network: nn.Module, spec: InputSpec) -> nn.Module:
    """Return a network that takes and gives what a user has: series in their own units; others are so already."""
    if spec.kind != "forecasting":
        return network
    from trainyard.models.forecaster import RawForecaster

    return RawForecaster(network, spec.mean, spec.std, len(spec.classes)).eval()
