"""An image classifier: plain blocks in the style of VGG (Simonyan 2014, arXiv:1409.1556), or a ResNet."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from trainyard.models.activation import activation, normalisation
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.initialisation import initialise
from trainyard.models.resnet import resnet_blocks, resnet_stem
from trainyard.models.whitening import Whitening


class CNN(nn.Module):
    """Blocks of convolutions, the mean over all pixels, and a linear head."""

    def __init__(self, config: CNNConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem: nn.Module = nn.Identity()
        if config.architecture == "plain":
            if config.whitening:
                whitening = Whitening(in_channels, config.whitening)
                self.stem = nn.Sequential(whitening, activation(config.activation))
                in_channels = whitening.out_channels
            widths = (in_channels, *config.widths)
            self.blocks = nn.Sequential(*(_block(config, n_in, n_out) for n_in, n_out in pairwise(widths)))
            channels = widths[-1]
        else:
            self.stem = resnet_stem(config, in_channels)
            self.blocks, channels = resnet_blocks(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(channels, num_classes)
        initialise(self, config.initialisation, config.activation)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes).

        H and W are free, but not below `cnn_config.smallest_side`.
        """
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


def _block(config: CNNConfig, in_channels: int, out_channels: int) -> nn.Sequential:
    """Return convolutions, each with normalisation and activation, one of which halves height and width."""
    halved = 0 if config.pool_after == "first" else config.convolutions - 1
    layers: list[nn.Module] = []
    for index in range(config.convolutions):
        convolution = nn.Conv2d(
            in_channels if index == 0 else out_channels,
            out_channels,
            config.kernel_size,
            stride=2 if index == halved and config.pooling == "stride" else 1,
            padding=config.kernel_size // 2,
            bias=config.normalisation == "none",  # a normalisation would subtract it again
        )
        rest = [normalisation(config.normalisation, out_channels), activation(config.activation)]
        pooling = _pooling(config) if index == halved else []
        # Pooled at once, normalisation and activation cost a quarter.
        layers += [convolution, *pooling, *rest] if config.pool_after == "first" else [convolution, *rest, *pooling]
    return nn.Sequential(*layers)


def _pooling(config: CNNConfig) -> list[nn.Module]:
    match config.pooling:
        case "max":
            return [nn.MaxPool2d(2)]
        case "average":
            return [nn.AvgPool2d(2)]
        case "stride" | "none":
            return []
