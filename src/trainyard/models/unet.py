"""U-Net, a segmenter that joins what it sees from afar with what it sees up close.

Ronneberger, Fischer and Brox 2015, arXiv:1505.04597.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from trainyard.models.activation import activation, normalisation
from trainyard.models.initialisation import initialise
from trainyard.models.unet_config import UNetConfig, context


class UNet(nn.Module):
    """An encoder that halves the image `depth` times, and a decoder that doubles it again."""

    def __init__(self, config: UNetConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.multiple = 2**config.depth
        self.is_padded = config.padding == "same"
        self.has_skips = config.skip_connections
        widths = [config.base_width * 2**level for level in range(config.depth + 1)]
        down = list(pairwise((in_channels, *widths)))
        up = list(pairwise(reversed(widths)))
        self.encoder = nn.ModuleList(_level(config, n_in, n_out) for n_in, n_out in down[:-1])
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Sequential(_level(config, *down[-1]), nn.Dropout(config.dropout))
        self.upsamplings = nn.ModuleList(_upsampling(config, n_in, n_out) for n_in, n_out in up)
        # A skip brings as many channels as come up from below.
        joined = [(n_in if self.has_skips else n_out, n_out) for n_in, n_out in up]
        self.decoder = nn.ModuleList(_level(config, n_in, n_out) for n_in, n_out in joined)
        self.head = nn.Conv2d(config.base_width, num_classes, kernel_size=1)
        # From the level below the finest one downwards.
        self.coarse_heads = nn.ModuleList(
            nn.Conv2d(widths[level], num_classes, kernel_size=1) for level in range(1, config.deep_supervision + 1)
        )
        initialise(self, config.initialisation, config.activation)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (N, in_channels, H, W) to logits (N, num_classes, H, W); unpadded, to fewer pixels.

        With deep supervision and while training, to a tuple: these logits, and those of the coarser levels after them, each
        enlarged to the same size.
        """
        features = _pad_to_multiple(images, self.multiple) if self.is_padded else images
        skips = []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
            features = self.pool(features)
        features = self.bottom(features)
        risen = []
        for upsampling, level, skip in zip(self.upsamplings, self.decoder, reversed(skips), strict=True):
            features = upsampling(features)
            if self.has_skips:
                same_size = skip if self.is_padded else _crop(skip, features)
                features = torch.cat((same_size, features), dim=1)
            features = level(features)
            risen.append(features)
        logits: Tensor = self.head(features)
        logits = logits[..., : images.shape[2], : images.shape[3]] if self.is_padded else logits
        if not self.coarse_heads or not self.training:
            return logits
        coarse = [head(features) for head, features in zip(self.coarse_heads, reversed(risen[:-1]), strict=False)]
        return logits, *(_enlarged(found, 2**level, images) for level, found in enumerate(coarse, start=1))


class WithContext(nn.Module):
    """An unpadded U-Net that labels every pixel: the border is repeated outwards by what its convolutions take away.

    The paper mirrors the border, which needs an image larger than the context; repeating works at any size.
    """

    def __init__(self, unet: UNet, config: UNetConfig) -> None:
        super().__init__()
        self.unet = unet
        self.multiple = 2**config.depth
        self.lost, self.remainder = context(config)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes, H, W)."""
        height, width = images.shape[2], images.shape[3]
        before = self.lost // 2
        bottom = self.lost - before + (self.remainder - height - self.lost) % self.multiple
        right = self.lost - before + (self.remainder - width - self.lost) % self.multiple
        logits: Tensor = self.unet(pad(images, (before, right, before, bottom), mode="replicate"))
        return logits[..., :height, :width]


def _level(config: UNetConfig, in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the convolutions at one resolution, each with normalisation and activation."""
    layers: list[nn.Module] = []
    for index in range(config.convolutions):
        layers += [
            nn.Conv2d(
                in_channels if index == 0 else out_channels,
                out_channels,
                config.kernel_size,
                padding=config.kernel_size // 2 if config.padding == "same" else 0,
                bias=config.normalisation == "none",  # a normalisation would subtract it again
            ),
            normalisation(config.normalisation, out_channels),
            activation(config.activation),
        ]
    return nn.Sequential(*layers)


def _upsampling(config: UNetConfig, in_channels: int, out_channels: int) -> nn.Module:
    """Return what doubles height and width, and maps `in_channels` to `out_channels`."""
    match config.upsampling:
        case "transposed":
            return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        case "bilinear" | "nearest":
            # The 1x1 convolution comes first: it commutes with the upsampling, and costs a quarter down here.
            return nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1),
                nn.Upsample(scale_factor=2, mode=config.upsampling),
            )


def _pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of images (N, C, H, W) until H and W are multiples of `multiple`.

    No branch looks at a size, so an exported graph does the same at every size.
    """
    height, width = images.shape[2], images.shape[3]
    bottom = (height + multiple - 1) // multiple * multiple - height
    right = (width + multiple - 1) // multiple * multiple - width
    return pad(images, (0, right, 0, bottom), mode="replicate")


def _enlarged(logits: Tensor, factor: int, like: Tensor) -> Tensor:
    """Return logits (N, K, h, w) of a coarser level at the height and width of images, before these were padded.

    Instead of a mask made smaller, in which nothing might be left of a membrane of three pixels.
    """
    larger = interpolate(logits.float(), scale_factor=factor, mode="bilinear", align_corners=False)
    return larger[..., : like.shape[2], : like.shape[3]]


def _crop(features: Tensor, like: Tensor) -> Tensor:
    """Return the middle of features (N, C, H, W) at the height and width of `like`."""
    height, width = like.shape[2], like.shape[3]
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[..., top : top + height, left : left + width]
