"""What a model says of one raw input, in the user's own terms."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainyard.data.image_files import Resize, Size
from trainyard.serving.bad_input import BadInput

COLOURS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 255, 255),
    (128, 128, 128),
)
"""Of the first classes in a mask: black, the seven of Okabe and Ito, which colour-blind people tell apart, white and grey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The class of an image or a text."""

    label: str
    number: int
    """Of the class, from 0."""
    probability: float
    """Of that class."""
    probabilities: NDArray[np.float32]
    """(K,) of each class."""
    logits: NDArray[np.float32]
    """(K,) as the graph gave them."""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The class of each pixel of an image."""

    classes: tuple[str, ...]
    ids: NDArray[np.uint8]
    """(H, W) as the graph saw the image."""
    confidence: float
    """Mean probability of the classes that are given."""
    size: Size
    """Height and width of the image as it came."""
    resize: Resize
    """How it was brought to the graph's size."""

    @cached_property
    def at_own_size(self) -> NDArray[np.uint8]:
        """Ids at the size of the image as it came: each pixel has that of the nearest one that the graph saw.

        What the graph did not see, because the image was cut to its middle, is of class 0.
        """
        return _back(self.ids, self.size, self.resize)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class."""
        counts = np.bincount(self.ids.ravel(), minlength=len(self.classes))
        return dict(zip(self.classes, (counts / self.ids.size).tolist(), strict=True))

    def png(self) -> bytes:
        """Return an image file at the image's own size whose palette colours the classes; its values are their ids."""
        image = Image.fromarray(self.at_own_size)
        image.putpalette([value for colour in palette(len(self.classes)) for value in colour])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How a series goes on."""

    targets: tuple[str, ...]
    values: NDArray[np.float32]
    """(horizon, D) in the targets' own units."""


Answer = Label | Mask | Forecast


def forecast_column(target: str, others: Collection[str]) -> str:
    """Return what the column of a target's forecast is called in a table that has other columns, too."""
    return f"forecast_{target}" if target in others else target


def check_finite(answer: Answer, field: str) -> None:
    """Refuse an answer without an end, which numbers far from all that the network was trained on can lead to.

    Raises:
        BadInput: naming the input.
    """
    numbers = (
        answer.values if isinstance(answer, Forecast) else answer.logits if isinstance(answer, Label) else answer.confidence
    )
    if not np.isfinite(numbers).all():
        expected = "numbers nearer to those that it was trained on"
        raise BadInput(field, "numbers that the network finds no answer to", expected, "no-answer")


def palette(classes: int) -> list[tuple[int, int, int]]:
    """Return a colour for each class; those beyond the known ones are spread over the cube of all colours."""
    found = list(COLOURS)
    for number in range(classes):
        colour = (37 * number % 256, 91 * number % 256, 151 * number % 256)
        if colour not in found:
            found.append(colour)
    return found[:classes]


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities (N, K, ...) of logits (N, K, ...)."""
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _back(ids: NDArray[np.uint8], size: Size, resize: Resize) -> NDArray[np.uint8]:
    """Return ids (H, W) at another size, with what `image_files` did to the image undone."""
    height, width = size
    if ids.shape == size:
        return ids
    if resize == "stretch":
        return np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))
    ratios = (ids.shape[1] / width, ids.shape[0] / height)
    scale = max(ratios) if resize == "crop" else min(ratios)
    columns = _places(width, ids.shape[1], scale, resize)
    rows = _places(height, ids.shape[0], scale, resize)
    seen = ((rows >= 0) & (rows < ids.shape[0]))[:, None] & ((columns >= 0) & (columns < ids.shape[1]))
    found = ids[rows.clip(0, ids.shape[0] - 1)[:, None], columns.clip(0, ids.shape[1] - 1)]
    back: NDArray[np.uint8] = np.where(seen, found, 0).astype(np.uint8)
    return back


def _places(own: int, seen: int, scale: float, resize: Resize) -> NDArray[np.int64]:
    """Return for each of an image's own pixels, along one side, the one that the graph saw there; it may lie outside."""
    bound = max if resize == "crop" else min
    scaled = bound(seen, max(1, round(own * scale)))
    first = (scaled - seen) // 2
    places = np.floor((np.arange(own) + 0.5) * scaled / own).astype(np.int64) - first
    # Of an image that fits into the graph's size, the outermost pixels are still its own.
    return places.clip(-first, scaled - 1 - first)
