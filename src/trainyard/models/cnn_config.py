"""Block `model` of family `cnn`, and the arithmetic of its image sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from trainyard.params import Count, Fraction, Index

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "none"]
Normalisation = Literal["batch", "group", "none"]
Initialisation = Literal["kaiming", "xavier", "normal_small", "normal_large", "zeros", "default"]

RESNET_BLOCKS: dict[str, tuple[int, ...]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Residual blocks in each of the four stages (He et al. 2016, table 1)."""
BOTTLENECKS = ("resnet50", "resnet101", "resnet152")
"""The ResNets whose blocks are 1x1, 3x3, 1x1 instead of 3x3, 3x3."""
PLAIN_ONLY = ("widths", "convolutions", "kernel_size", "pooling", "pool_after", "whitening")
"""What a ResNet's name already decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CNNConfig:
    """Shape of an image classifier."""

    architecture: Literal["plain", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "plain"
    """plain: the blocks described here. A ResNet: those of He et al. 2016."""
    widths: tuple[Count, ...] = ()
    """Channels of each block; for plain, which needs them."""
    convolutions: Count = 2
    """Convolutions of each block; for plain."""
    kernel_size: Count = 3
    """Side of each convolution's kernel in pixels, odd; for plain."""
    pooling: Literal["max", "average", "stride", "none"] = "max"
    """How a block halves height and width; stride: by a convolution; for plain."""
    pool_after: Literal["first", "last"] = "last"
    """Convolution of a block after which it pools. first: the others see a quarter of the pixels; for plain."""
    whitening: Index = 0
    """Side, in pixels, of patches of the training images whose principal components, scaled to one variance and in both signs,
    are a fixed first layer: neighbouring pixels are much alike, and what differs is learned sooner (Jordan 2024,
    arXiv:2404.00498). 0: none; for plain."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """First layers of a ResNet. imagenet: 7x7, a quarter of the side is left; small: 3x3, all of it is."""
    activation: Activation = "relu"
    """What follows each convolution. none: nothing does, and all layers together are one linear map."""
    normalisation: Normalisation = "batch"
    """Between convolution and activation. group: 8 groups, or the most up to 8 that divide the channels."""
    dropout: Fraction = 0.0
    """Share of the features before the last layer that are set to 0 in a training step (Srivastava 2014)."""
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
        if self.architecture == "plain":
            if not self.widths:
                raise ValueError(
                    "widths: is missing for architecture: plain; "
                    "list the channels of each block, such as [32, 64], or name a ResNet"
                )
            if self.pooling == "none" and self.pool_after == "first":
                raise ValueError("pool_after: first goes with pooling, found pooling: none; remove one of them")
            if self.whitening == 1:
                raise ValueError("whitening: 1 is a patch of one pixel, which has no neighbours; use 2 or 3, or 0 for none")
            if self.stem != "imagenet":
                raise ValueError(
                    f"stem: {self.stem} goes with a ResNet, found architecture: plain; remove stem, or name a ResNet"
                )
            return
        defaults = {field.name: field.default for field in fields(self)}
        for key in PLAIN_ONLY:
            if getattr(self, key) != defaults[key]:
                raise ValueError(
                    f"{key}: {_as_yaml(getattr(self, key))} goes with architecture: plain, "
                    f"found architecture: {self.architecture}, which has its own; "
                    f"remove {key}, or use architecture: plain"
                )


def halvings(config: CNNConfig) -> int:
    """Return how often height and width are halved between the image and the last feature map."""
    if config.architecture != "plain":
        return 5 if config.stem == "imagenet" else 3
    return 0 if config.pooling == "none" else len(config.widths)


def smallest_side(config: CNNConfig) -> int:
    """Return the smallest height or width, in pixels, that leaves every halving two pixels to halve.

    A pooling window of two drops an odd last pixel, so n becomes floor(n / 2); a padded stride keeps it, so n
    becomes ceil(n / 2).
    """
    count, lost = halvings(config), max(0, config.whitening - 1)
    if count == 0:
        return 1 + lost
    rounds_up = config.architecture != "plain" or config.pooling == "stride"
    halved: int = 2 ** (count - 1)
    return lost + (halved + 1 if rounds_up else 2 * halved)


def receptive_field(config: CNNConfig) -> int:
    """Return the side, in pixels, of the part of the image that one pixel of the last feature map depends on.

    A layer of kernel k widens it by (k - 1) times the product of all strides before (Araujo et al. 2019,
    https://distill.pub/2019/computing-receptive-fields).
    """
    field, jump = 1, 1
    for kernel_size, stride in _layers(config):
        field += (kernel_size - 1) * jump
        jump *= stride
    return field


def _layers(config: CNNConfig) -> list[tuple[int, int]]:
    """Return kernel size and stride of each layer on the longest path through the network."""
    if config.architecture == "plain":
        kernel_size = config.kernel_size
        halved = 0 if config.pool_after == "first" else config.convolutions - 1
        block = []
        for index in range(config.convolutions):
            block.append((kernel_size, 2 if index == halved and config.pooling == "stride" else 1))
            if index == halved and config.pooling in ("max", "average"):
                block.append((2, 2))
        return [(config.whitening, 1)] * bool(config.whitening) + block * len(config.widths)
    layers = [(7, 2), (3, 2)] if config.stem == "imagenet" else [(3, 1)]
    for stage, count in enumerate(RESNET_BLOCKS[config.architecture]):
        for block_index in range(count):
            stride = 2 if stage and not block_index else 1
            # The 1x1 convolutions of a bottleneck widen nothing.
            layers += [(3, stride)] if config.architecture in BOTTLENECKS else [(3, stride), (3, 1)]
    return layers


def _as_yaml(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
