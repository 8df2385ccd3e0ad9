"""The parts of a residual network (He et al. 2016, arXiv:1512.03385).

Version 1.5: a bottleneck's stride is in its 3x3 convolution, not in its first 1x1 one as in the paper, which
then skips three of four pixels (Goyal et al. 2017, arXiv:1706.02677).
"""

from __future__ import annotations

from torch import Tensor, nn

from trainyard.models.activation import activation, normalisation
from trainyard.models.cnn_config import BOTTLENECKS, RESNET_BLOCKS, CNNConfig

STEM_WIDTH = 64
"""Channels of the stem, and of the first stage's 3x3 convolutions."""
EXPANSION = 4
"""Channels out of a bottleneck for each channel inside."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of 1x1, 3x3, 1x1, added to what came in."""

    def __init__(self, config: CNNConfig, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        if config.architecture in BOTTLENECKS:
            channels = width * EXPANSION
            self.residual = nn.Sequential(
                *_convolution(config, in_channels, width, kernel_size=1),
                activation(config.activation),
                *_convolution(config, width, width, kernel_size=3, stride=stride),
                activation(config.activation),
                *_convolution(config, width, channels, kernel_size=1),
            )
        else:
            channels = width
            self.residual = nn.Sequential(
                *_convolution(config, in_channels, width, kernel_size=3, stride=stride),
                activation(config.activation),
                *_convolution(config, width, width, kernel_size=3),
            )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(*_convolution(config, in_channels, channels, kernel_size=1, stride=stride))
        self.activation = activation(config.activation)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        result: Tensor = self.activation(self.residual(features) + self.shortcut(features))
        return result


def resnet_stem(config: CNNConfig, in_channels: int) -> nn.Sequential:
    """Return the first layers: images (N, in_channels, H, W) to 64 channels at 1/4 of the side, or all."""
    if config.stem == "small":
        return nn.Sequential(*_convolution(config, in_channels, STEM_WIDTH, kernel_size=3), activation(config.activation))
    return nn.Sequential(
        *_convolution(config, in_channels, STEM_WIDTH, kernel_size=7, stride=2),
        activation(config.activation),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def resnet_blocks(config: CNNConfig) -> tuple[nn.Sequential, int]:
    """Return the four stages of residual blocks, and the channels that come out of the last."""
    stages = []
    channels = STEM_WIDTH
    for stage, count in enumerate(RESNET_BLOCKS[config.architecture]):
        width = STEM_WIDTH * 2**stage
        blocks = []
        for index in range(count):
            blocks.append(ResidualBlock(config, channels, width, stride=2 if stage and not index else 1))
            channels = width * EXPANSION if config.architecture in BOTTLENECKS else width
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages), channels


def _convolution(
    config: CNNConfig, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps ceil(side / stride) pixels, and its normalisation."""
    convolution = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        bias=config.normalisation == "none",  # a normalisation would subtract it again
    )
    return convolution, normalisation(config.normalisation, out_channels)
