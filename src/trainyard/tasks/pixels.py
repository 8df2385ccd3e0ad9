"""Values of images changed: brightness, contrast, colours, noise, and a square cut out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.draws import Draws, Slot


def image_levels(images: Tensor) -> Tensor:
    """Return the mean of each image (N, C, H, W) uint8, (N,) float32; whole numbers add up exactly in any order."""
    total = images.flatten(1).sum(dim=1, dtype=torch.int64)
    return (total.double() / images[0].numel()).float()


def change_values(images: Tensor, levels: Tensor | None, config: AugmentConfig, draws: Draws) -> Tensor:
    """Return images with other colours and noise: float32 in 0..255 where there is something to change.

    Args:
        images: (N, C, H, W) uint8, or float32 in 0..255 that may be overwritten.
        levels: (N,) the means that contrast leaves as they are; None without contrast.
        config: what may happen.
        draws: of the N samples.
    """
    if not (config.brightness or config.contrast or config.colour or config.noise):
        return images
    values = images.float()
    if config.colour:
        values = _turn_colours(values, config.colour, draws)
    if config.brightness or levels is not None:
        added = draws.uniform(Slot.BRIGHTNESS, -255 * config.brightness, 255 * config.brightness)
        if levels is not None:
            factor = draws.uniform(Slot.CONTRAST, 1 - config.contrast, 1 + config.contrast)
            values = values * _by_sample(factor)
            added = added + levels * (1 - factor)
        values = values + _by_sample(added)
    if config.noise:
        noise = draws.normal(Slot.NOISE, images[0].numel()).view(images.shape)
        values = values + noise.mul_(255 * config.noise)
    return values.clamp_(0, 255)


def cut_out(images: Tensor, side: int, mean: tuple[float, ...], draws: Draws) -> Tensor:
    """Return images (N, C, H, W) with a square of `side` pixels, somewhere in each, painted with the mean of each channel.

    Args:
        images: uint8, or float32 in 0..255.
        side: below H and W.
        mean: of each channel, in 0..1.
        draws: of the N samples.
    """
    count, channels, height, width = images.shape
    steps = torch.arange(side, device=images.device)
    rows = draws.below(Slot.CUT_ROW, height - side + 1)[:, None] + steps
    columns = draws.below(Slot.CUT_COLUMN, width - side + 1)[:, None] + steps
    places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    paint = torch.tensor([round(255 * value) for value in mean], dtype=images.dtype, device=images.device)
    # The square alone is written: choosing for every pixel takes ten times as long.
    cut = images.reshape(count, channels, -1).scatter(2, places, paint[:, None].expand_as(places))
    return cut.view(images.shape)


def _turn_colours(values: Tensor, share: float, draws: Draws) -> Tensor:
    """Turn values (N, 3, H, W) about the axis of greys, and move them to it or away from it.

    Written out by channel, as Rodrigues' rotation about (1, 1, 1): red becomes a * red + b * green + c * blue, and so on round.
    """
    saturation = draws.uniform(Slot.SATURATION, 1 - share, 1 + share)
    angle = draws.uniform(Slot.HUE, -math.pi * share, math.pi * share).double()
    cosine, sine = angle.cos().float() * saturation / 3, angle.sin().float() * saturation / math.sqrt(3)
    own, second, third = 1 / 3 + 2 * cosine, 1 / 3 - cosine - sine, 1 / 3 - cosine + sine
    turned = values * _by_sample(own)
    turned += values[:, [1, 2, 0]] * _by_sample(second)
    turned += values[:, [2, 0, 1]] * _by_sample(third)
    return turned


def _by_sample(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]
