"""Where the tiles of a large image lie: the overlap-tile strategy of the U-Net paper, arXiv:1505.04597, figure 2.

Each tile gives its middle alone, whose pixels saw what they would see in the whole image; the middles lie side by side, so
that each pixel is labelled by one tile. Along one axis, with what the network takes away at its border in brackets:

    | margin |            step            | margin |      pixels of a tile; the next one begins a step further
    [        |  kept: no other tile's     |        ]
"""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.models.unet_config import UNetConfig, context
from trainyard.params import Count, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class TileConfig:
    """The pieces in which images are labelled that are larger than the memory, or than what a network was trained on."""

    size: Count | tuple[Count, Count]
    """Height and width in pixels of what the network sees at once, or one number for both."""
    overlap: Index
    """Pixels that neighbouring tiles share, at least. No tile's border shows in the labels once they share all that a pixel
    is seen with, which is what the same U-Net takes away with padding: none (184 pixels of the paper's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAxis:
    """The tiles along the height or the width. All numbers are pixels."""

    size: int
    """Of a tile as the network sees it."""
    margin: int
    """From the beginning of a tile to the first pixel that it labels."""
    step: int
    """Labelled by one tile; a multiple of 2^depth, so that pooling cuts a tile as it cuts the whole image."""
    lost: int
    """By which the network's output is smaller than the tile, half of it at each end."""

    def starts(self, side: int) -> list[int]:
        """Return where the tiles begin that label an image of this height or width; the first ones begin outside of it."""
        return list(range(-self.margin, side - self.margin, self.step))


def tile_axes(tile: TileConfig, model: UNetConfig) -> tuple[TileAxis, TileAxis]:
    """Return the tiles along height and width for a network.

    Raises:
        ValueError: nothing is left of a tile without its margins.
    """
    height, width = (tile.size, tile.size) if isinstance(tile.size, int) else tile.size
    return _axis(height, tile.overlap, model), _axis(width, tile.overlap, model)


def _axis(side: int, overlap: int, model: UNetConfig) -> TileAxis:
    multiple = 2**model.depth
    # An unpadded network takes its context itself, and only certain sizes; a padded one fills up to a multiple.
    lost, remainder = context(model) if model.padding == "none" else (0, 0)
    size = side - (side - remainder) % multiple
    more = max(0, -(-overlap // 2) - lost // 2)
    more += -more % multiple
    step = (size - lost - 2 * more) // multiple * multiple
    if step <= 0:
        needed = remainder + -(-(lost + 2 * more + multiple - remainder) // multiple) * multiple
        raise ValueError(
            f"size {side} and overlap {overlap} leave nothing of a tile's middle with depth: {model.depth} and padding: "
            f"{model.padding}; use a size of {needed} pixels or more, or a smaller overlap"
        )
    return TileAxis(size=size, margin=lost // 2 + more, step=step, lost=lost)
