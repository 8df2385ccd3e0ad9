"""Block `model` of family `unet`, and the arithmetic of its image sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainyard.models.cnn_config import Activation, Initialisation, Normalisation
from trainyard.params import Count, Fraction, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Shape of a U-Net; depth 4, base_width 64, padding none and normalisation none are the paper's."""

    depth: Count = 4
    """How often height and width are halved on the way down, and doubled on the way up."""
    base_width: Count = 64
    """Channels at full resolution; doubled with every halving."""
    convolutions: Count = 2
    """Convolutions at each level of each side."""
    kernel_size: Count = 3
    """Side of each convolution's kernel in pixels, odd."""
    upsampling: Literal["transposed", "bilinear", "nearest"] = "transposed"
    """transposed: a learned 2x2 convolution; the others double the pixels, a 1x1 one halves the channels."""
    skip_connections: bool = True
    """Whether a level on the way up also sees its counterpart on the way down."""
    padding: Literal["same", "none"] = "same"
    """none: convolutions see no pixel outside the image, so the output is smaller than it (`output_size`)."""
    activation: Activation = "relu"
    """What follows each convolution. none: nothing does, and all layers together are one linear map."""
    normalisation: Normalisation = "batch"
    """Between convolution and activation. group: 8 groups, or the most up to 8 that divide the channels."""
    dropout: Fraction = 0.0
    """Share of the features at the bottom of the U that are set to 0 in a training step (Srivastava 2014)."""
    deep_supervision: Index = 0
    """How many levels on the way up, below the full resolution, label pixels too while training: each against the whole mask,
    and counting half as much as the level above it (Lee 2015, arXiv:1409.5185; nnU-Net, Isensee 2021). Only the finest
    labels when the network is scored, and exported graphs have no other. 0: none."""
    initialisation: Initialisation = "kaiming"
    """How weights are drawn, with n inputs and m outputs of a unit. kaiming: variance 2 / n after relu (He 2015,
    arXiv:1502.01852), xavier: 2 / (n + m), normal_small: standard deviation 0.01, normal_large: 1, zeros: all 0, default:
    torch's own."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size: {self.kernel_size} is even and has no middle pixel; "
                f"use {self.kernel_size - 1} or {self.kernel_size + 1}"
            )
        if self.deep_supervision >= self.depth:
            raise ValueError(
                f"deep_supervision: {self.deep_supervision} is more levels than there are below the full resolution on the way "
                f"up with depth: {self.depth}; use at most {self.depth - 1}"
            )
        if self.deep_supervision and self.padding == "none":
            raise ValueError(
                f"deep_supervision: {self.deep_supervision} needs labels for every pixel, which padding: none cuts away "
                "differently at each level; use padding: same, or remove it"
            )


def receptive_field(config: UNetConfig) -> int:
    """Return the side, in pixels, of the part of the image that one pixel at the bottom of the U depends on.

    At level l, where a pixel is 2^l pixels of the image, each convolution of kernel k widens it by
    (k - 1) 2^l, and the pooling below by 2^l.
    """
    widening = config.convolutions * (config.kernel_size - 1)
    scale: int = 2**config.depth
    # The levels above the bottom add up to (widening + 1) (1 + 2 + ... + scale / 2).
    return 1 + (widening + 1) * (scale - 1) + widening * scale


def output_size(config: UNetConfig, size: int) -> int:
    """Return the height (or width) in pixels of the logits of an image whose height (or width) is `size`.

    Raises:
        ValueError: unpadded convolutions leave nothing of it, or an odd side that cannot be halved evenly.
    """
    if config.padding == "same":
        return size
    result = _unpadded_size(config, size)
    if result is None:
        reachable = range(size, size + receptive_field(config) + 2 ** (config.depth + 1))
        fitting = next(side for side in reachable if _unpadded_size(config, side) is not None)
        raise ValueError(
            f"an image side of {size} pixels does not go through depth: {config.depth} with padding: none; "
            f"use {fitting} pixels, or padding: same"
        )
    return result


def context(config: UNetConfig) -> tuple[int, int]:
    """Return how many pixels unpadded convolutions take away in all, and the remainder that sizes must leave.

    A side fits when it leaves that remainder divided by 2^depth; the logits are then smaller by the first number.
    """
    multiple = 2**config.depth
    smallest = next(side for side in range(1, 4 * receptive_field(config) + multiple) if _unpadded_size(config, side))
    return smallest - output_size(config, smallest), smallest % multiple


def _unpadded_size(config: UNetConfig, size: int) -> int | None:
    """Return what unpadded convolutions leave of `size`; None where a level is odd or vanishes."""
    lost = config.convolutions * (config.kernel_size - 1)
    for _ in range(config.depth):
        size -= lost
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= lost
    for _ in range(config.depth):
        if size <= 0:
            return None
        size = 2 * size - lost
    return size if size > 0 else None
