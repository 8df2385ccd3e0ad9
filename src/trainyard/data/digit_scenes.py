"""Scenes to segment: real handwritten digits at random sizes and places on textured canvases, with exact masks.

The digits are those of `digits.py`. They are split first, and a scene is composed only from the digits of its own split:
no stroke that a network is tested on was seen in training. Scene i is a function of (seed, i) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.digits import CLASSES, MOST_INK, read_digits
from trainyard.data.packed import SPLITS
from trainyard.data.raw import RawDataset
from trainyard.data.splits import check_fractions, stratified_split
from trainyard.params import Count, Fraction, Seed

Pixels = NDArray[np.float64]

PLACES_TRIED = 16
"""Random places that are drawn for a digit; where all of them touch an earlier one, it is left out."""
FAINTEST_INK = 0.3
"""Ink below this, on a scale from 0 to 1, is neither drawn nor in the mask: the mask has an exact edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitScenesConfig:
    """How many scenes, and what is in them."""

    source: Literal["digit_scenes"]
    path: Literal["requirements.lock"] = "requirements.lock"
    """What these data come with: libraries, in the versions locked there."""
    scenes: Count = 2000
    """Samples in all three splits together."""
    size: Count = 64
    """Height and width of a scene in pixels."""
    max_digits: Count = 3
    """A scene holds 1 up to this many digits."""
    smallest_digit: Count = 18
    """Height and width in pixels of the box around the smallest digit."""
    largest_digit: Count = 32
    """Height and width in pixels of the box around the largest digit."""
    seed: Seed = 0
    """Of the split of the digits and of the scenes."""
    val_fraction: Fraction = 0.1
    """Share of the digits, and of the scenes."""
    test_fraction: Fraction = 0.15
    """Share of the digits, and of the scenes."""

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, self.test_fraction)
        if self.smallest_digit > self.largest_digit:
            raise ValueError(
                f"smallest_digit {self.smallest_digit} is larger than largest_digit {self.largest_digit}; "
                "lower smallest_digit or raise largest_digit"
            )
        if self.size < self.largest_digit:
            raise ValueError(
                f"size {self.size} cannot hold a digit of largest_digit {self.largest_digit} pixels; "
                f"raise size to at least {self.largest_digit} or lower largest_digit"
            )
        if min(_scenes_by_split(self)) < 1:
            raise ValueError(
                f"scenes {self.scenes} with val_fraction {self.val_fraction} and test_fraction {self.test_fraction} "
                "leaves a split empty; raise scenes or the fraction"
            )


def load(config: DigitScenesConfig) -> RawDataset:
    """Return images (scenes, 1, size, size) uint8 and masks (scenes, size, size) uint8: 0 background, 1 + digit."""
    ink, labels = read_digits()
    digits = digits_by_split(ink, labels, config)
    split = np.repeat(np.arange(len(SPLITS)), _scenes_by_split(config))
    images = np.empty((config.scenes, 1, config.size, config.size), dtype=np.uint8)
    masks = np.empty((config.scenes, config.size, config.size), dtype=np.uint8)
    for scene in range(config.scenes):
        chosen = digits[split[scene]]
        images[scene, 0], masks[scene] = compose(ink[chosen], labels[chosen], config, scene)
    return RawDataset(
        kind="segmentation",
        classes=("background", *CLASSES),
        arrays={"images": images, "masks": masks},
        about=f"{config.scenes} made-up scenes of {config.size} x {config.size} pixels with real handwritten digits "
        "(Alpaydin and Kaynak, 1998, UCI); no digit is in two splits",
        libraries={"numpy": np.__version__, "scikit-learn": version("scikit-learn")},
        split=split,
    )


def digits_by_split(ink: Pixels, labels: NDArray[np.int64], config: DigitScenesConfig) -> list[NDArray[np.int64]]:
    """Return which of the digits scenes of each split are composed from; equal digits count once."""
    _, first = np.unique(ink.reshape(len(ink), -1), axis=0, return_index=True)
    kept = np.sort(first)
    parts = stratified_split(
        labels[kept],
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        classes=CLASSES,
    )
    return [kept[part] for part in parts]


def compose(
    ink: Pixels, labels: NDArray[np.int64], config: DigitScenesConfig, scene: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene from some digits, `ink` (N, 8, 8) and `labels` (N,).

    Returns:
        The image (size, size), grey from 0 to 255, and the mask (size, size): 0 background, 1 + digit.
    """
    rng = np.random.Generator(np.random.Philox(key=[config.seed, scene]))
    canvas = _texture(rng, config.size)
    mask = np.zeros((config.size, config.size), dtype=np.uint8)
    for _ in range(rng.integers(1, config.max_digits + 1)):
        digit = rng.integers(len(labels))
        resized = resize_ink(ink[digit], int(rng.integers(config.smallest_digit, config.largest_digit + 1)))
        window = _place(rng, mask, len(resized))
        if window is None:
            continue
        drawn = resized > FAINTEST_INK
        canvas[window] += np.where(drawn, resized, 0) * (_tone(rng, canvas[window]) - canvas[window])
        mask[window][drawn] = labels[digit] + 1
    canvas += rng.normal(0, rng.uniform(0, 0.03), canvas.shape)
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8), mask


def resize_ink(ink: Pixels, side: int) -> Pixels:
    """Resize ink (8, 8), from 0 to 16, to (side, side), from 0 to 1, by bilinear interpolation."""
    weights = _interpolation(len(ink), side)
    # Rounded, so that the threshold of the mask falls alike on every processor.
    resized: Pixels = np.round(weights @ (ink / MOST_INK) @ weights.T, 9)
    return resized


@cache
def _interpolation(length: int, side: int) -> Pixels:
    """Return the matrix (side, length) that interpolates linearly between pixel centres and repeats the border."""
    centres = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    weights: Pixels = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length)))
    return weights


def _place(rng: np.random.Generator, mask: NDArray[np.uint8], side: int) -> tuple[slice, slice] | None:
    """Return a window of the scene that is still free, or None where none of those tried is."""
    for y, x in rng.integers(0, len(mask) - side + 1, size=(PLACES_TRIED, 2)).tolist():
        window = (slice(y, y + side), slice(x, x + side))
        if not mask[window].any():
            return window
    return None


def _tone(rng: np.random.Generator, background: Pixels) -> float:
    """Return a grey that stands out from the background as chalk does."""
    return float(background.mean()) + float(rng.uniform(0.35, 0.6))


def _texture(rng: np.random.Generator, size: int) -> Pixels:
    """Return a background (size, size) around a mean grey: a gradient, stripes and noise at three scales."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    angle, stripe_angle, phase = rng.uniform(0, 2 * np.pi, 3)
    gradient = rng.uniform(0, 0.3) * (np.cos(angle) * x + np.sin(angle) * y)
    waves = rng.uniform(4, 16) * 2 * np.pi
    stripes = rng.choice([0.0, 0.06]) * np.sin(waves * (np.cos(stripe_angle) * x + np.sin(stripe_angle) * y) + phase)
    canvas: Pixels = rng.uniform(0.15, 0.45) + gradient + stripes
    for cells in (4, 12, 32):
        weights = _interpolation(cells, size)
        canvas += weights @ rng.normal(0, rng.uniform(0, 0.06), (cells, cells)) @ weights.T
    return canvas


def _scenes_by_split(config: DigitScenesConfig) -> list[int]:
    """Return the numbers of training, validation and test scenes."""
    val = round(config.scenes * config.val_fraction)
    test = round(config.scenes * config.test_fraction)
    return [config.scenes - val - test, val, test]
