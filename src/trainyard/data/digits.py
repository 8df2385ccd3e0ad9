"""Handwritten digits, 8 x 8 pixels: 1,797 real ones that scikit-learn carries along.

They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998, UCI, CC BY 4.0,
https://doi.org/10.24432/C50P49). The file does not say who wrote which digit, so the splits go by sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.raw import RawDataset
from trainyard.data.splits import check_fractions
from trainyard.params import Fraction, Seed

CLASSES = tuple("0123456789")
MOST_INK = 16
"""The darkest pixel of the source, whose pixels count ink from 0 to 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsConfig:
    """Which part of the digits goes where."""

    source: Literal["digits"]
    path: Literal["requirements.lock"] = "requirements.lock"
    """What these data come with: libraries, in the versions locked there."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the samples."""
    test_fraction: Fraction = 0.2
    """Share of the samples."""

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, self.test_fraction)


def load(config: DigitsConfig) -> RawDataset:
    """Return images (1797, 1, 8, 8) uint8, ink as 0 to 255, and labels (1797,)."""
    ink, labels = read_digits()
    # 17 levels onto 0..255, rounded to the nearest: no two levels fall together, so nothing is lost.
    images = np.rint(ink[:, None] * (255 / MOST_INK)).astype(np.uint8)
    return RawDataset(
        kind="image_classification",
        classes=CLASSES,
        arrays={"images": images, "labels": labels},
        about="1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, 1998, UCI), as scikit-learn carries them",
        libraries={"scikit-learn": version("scikit-learn")},
    )


def read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return ink (1797, 8, 8), whole numbers from 0 to 16, and labels (1797,)."""
    # Its own reader needs all of scikit-learn, whose import takes longer than the rest of the stage.
    package = find_spec("sklearn")
    if package is None or package.submodule_search_locations is None:
        raise ModuleNotFoundError("scikit-learn, which carries the digits, is not installed", name="sklearn")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
