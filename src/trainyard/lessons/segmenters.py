"""U-Nets with parts left out or exchanged, and measures of their labels: where, what, and patterns of their own making."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from trainyard.data.packed import Card
from trainyard.lessons.dense import parameters
from trainyard.lessons.loop import build
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe

VARIANTS = ("U-Net", "no skips", "shallow", "bilinear")
SHALLOW = 1
"""Depth."""
FLAT, MIDDLE = 160, 16
"""Height and width of an even grey image, and of the part of its logits that no border reaches."""
Labels = NDArray[np.int64]


def config_of(recipe: Recipe) -> UNetConfig:
    """Return the shape of a recipe's U-Net."""
    if not isinstance(recipe.model, UNetConfig):
        raise TypeError(f"{recipe.name}: the lesson is about a U-Net, found family {recipe.family}")
    return recipe.model


def variants(base: Recipe, card: Card) -> tuple[Recipe, ...]:
    """Return a recipe in the order of VARIANTS; the shallow one has about as many weights."""
    config = config_of(base)
    changed = (
        config,
        replace(config, skip_connections=False),
        replace(config, depth=SHALLOW, base_width=_width_of_as_many(base, card)),
        replace(config, upsampling="bilinear"),
    )
    return tuple(replace(base, model=model) for model in changed)


@torch.no_grad()
def labels_of(network: nn.Module, images: Tensor) -> Labels:
    """Return the most probable class (N, H, W) of each pixel."""
    network.eval()
    labels: Labels = network(images).argmax(dim=1).numpy()
    return labels


def boundary_iou(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """Return the IoU of two masks' (N, H, W) outermost pixels (Cheng et al. 2021, arXiv:2103.16562, one pixel deep)."""
    square = np.ones((1, 3, 3), dtype=bool)
    one, other = (mask & ~binary_erosion(mask, square, border_value=1) for mask in (truth, found))
    return float((one & other).sum() / max(1, (one | other).sum()))


def wrong_class(truth: Labels, found: Labels) -> float:
    """Return the share of the pixels of objects, found as such, that are given to another class than theirs."""
    seen = (truth > 0) & (found > 0)
    return float((found[seen] != truth[seen]).mean()) if seen.any() else 1.0


@torch.no_grad()
def pattern(network: nn.Module, images: Tensor) -> tuple[float, NDArray[np.float64]]:
    """Return how much logits differ over an even grey image, relative to how much over images; and those of one class."""
    network.eval()
    flat = torch.full((1, 1, FLAT, FLAT), round(float(images.double().mean())), dtype=images.dtype)
    begin = (FLAT - MIDDLE) // 2
    middle = network(flat)[0, :, begin : begin + MIDDLE, begin : begin + MIDDLE].double()
    spread = network(images).double().std(dim=(0, 2, 3))
    around = (middle - middle.mean(dim=(1, 2), keepdim=True)) / spread.view(-1, 1, 1)
    return float(around.square().mean().sqrt()), around[0].numpy()


def _width_of_as_many(base: Recipe, card: Card) -> int:
    """Return the largest base width at which a shallow U-Net has no more weights than the recipe's."""
    most, width = parameters(build(base, card)), 1
    while True:
        wider = replace(base, model=replace(config_of(base), depth=SHALLOW, base_width=width + 1))
        if parameters(build(wider, card)) > most:
            return width
        width += 1
