"""What every source returns: samples in memory, before they are split and packed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import Problem

Kind = Literal["image_classification", "segmentation", "text_classification", "forecasting"]
MASK_CLASSES = 256
"""Of a segmentation at most: masks are uint8."""
TO_DIVIDE = -1
"""In `RawDataset.split`: goes to training, or to a split that the source has no samples for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDataset:
    """The samples of one source.

    `arrays` by kind: images (N, C, H, W) uint8 and labels (N,) int64; images and masks (N, H, W) uint8; texts, a list
    of N strings, and labels (N,) int64. Arrays may be memory-mapped, and larger than the memory.
    """

    kind: Kind
    classes: tuple[str, ...]
    arrays: dict[str, Any]
    about: str
    """One sentence: what the samples are, and where they come from."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Name and version of every library that the samples depend on."""
    groups: NDArray[np.int64] | None = None
    """(N,) samples with the same number go into the same split."""
    strata: NDArray[np.int64] | None = None
    """(N,) what the splits are stratified by, where there are no labels."""
    split: NDArray[np.int64] | None = None
    """(N,) 0 train, 1 val, 2 test, where the source itself says which sample goes where, TO_DIVIDE where it does not."""
    names: tuple[str, ...] = ()
    """Of each sample, for messages: its path relative to the raw data, or `file:row`. Empty where samples have none."""
    warnings: tuple[Problem, ...] = ()
    """What is odd about the raw data; it stands in the card."""
    origin: dict[str, str] = field(default_factory=dict)
    """Of published data: name, licence, licence_url and citation."""
    skipped: tuple[Problem, ...] = ()
    """Why samples were left out, where the recipe says `on_bad_sample: skip`."""

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def input(self) -> dict[str, int]:
        """Return what a network must know of images: channels, and height and width in pixels."""
        return dict(zip(("channels", "height", "width"), map(int, self.arrays["images"].shape[1:]), strict=True))
