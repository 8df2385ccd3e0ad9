"""Images labelled tile by tile: a network around a network, which scoring takes like any other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.tile_grid import TileAxis, tile_axes
from trainyard.models.build import NormalisedImages
from trainyard.models.turned import seen_from
from trainyard.models.unet import WithContext
from trainyard.models.unet_config import UNetConfig


class Tiled(nn.Module):
    """A segmenter that looks at one tile after the other; beyond the border it sees the image mirrored.

    It holds the logits of whole images, and the network's features of `batch_size` tiles.
    """

    def __init__(self, network: nn.Module, axes: tuple[TileAxis, TileAxis], batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.axes = axes
        self.batch_size = batch_size

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) uint8 of any size to logits (N, K, H, W)."""
        vertical, horizontal = self.axes
        height, width = images.shape[2:]
        places = [
            (number, top, left)
            for number in range(len(images))
            for top in vertical.starts(height)
            for left in horizontal.starts(width)
        ]
        logits = torch.empty(0)
        for start in range(0, len(places), self.batch_size):
            batch = places[start : start + self.batch_size]
            found = self.network(torch.stack([self._cut(images[number], top, left) for number, top, left in batch]))
            if not len(logits):
                logits = found.new_empty(len(images), found.shape[1], height, width)
            for (number, top, left), labelled in zip(batch, found, strict=True):
                rows, from_rows = _middle(vertical, top, height)
                columns, from_columns = _middle(horizontal, left, width)
                logits[number, :, rows, columns] = labelled[:, from_rows, from_columns]
        return logits

    def _cut(self, image: Tensor, top: int, left: int) -> Tensor:
        vertical, horizontal = self.axes
        rows = mirrored(torch.arange(top, top + vertical.size), image.shape[1])
        columns = mirrored(torch.arange(left, left + horizontal.size), image.shape[2])
        return image[:, rows[:, None], columns]


def segmenter(network: nn.Module, model: object, config: EvaluateConfig) -> tuple[nn.Module, int]:
    """Return what scores images as the recipe wants, and how many images it takes at once.

    Args:
        network: as it was trained.
        model: its config; only U-Nets look at tiles.
        config: whose `batch_size` counts tiles where there are any; images then come one by one.
    """
    seen, size = network, config.batch_size
    if config.tile is not None and isinstance(model, UNetConfig):
        bare = WithoutContext(network) if model.padding == "none" else network
        seen, size = Tiled(bare, tile_axes(config.tile, model), config.batch_size), 1
    return seen_from(seen, config.flips), size


class WithoutContext(nn.Module):
    """An unpadded U-Net that repeats no border: its logits are smaller than the tile, which brings real pixels around them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not (isinstance(network, NormalisedImages) and isinstance(network.network, WithContext)):
            raise TypeError(f"{type(network).__name__} holds no unpadded network")
        self.normalise = network.normalise
        self.unet = network.network.unet

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) uint8 to logits (N, K, H - lost, W - lost)."""
        logits: Tensor = self.unet(self.normalise(images))
        return logits


def mirrored(positions: Tensor, side: int) -> Tensor:
    """Return the pixels 0 ... side - 1 that positions stand for where an image is mirrored at its first and last pixel."""
    period = max(1, 2 * (side - 1))
    inside = positions.abs() % period
    return torch.minimum(inside, period - inside)


def _middle(axis: TileAxis, start: int, side: int) -> tuple[slice, slice]:
    """Return the pixels of the image that a tile labels, and where they stand in the network's output."""
    first = start + axis.margin
    count = min(axis.step, side - first)
    offset = axis.margin - axis.lost // 2
    return slice(first, first + count), slice(offset, offset + count)
