"""Images of which no pixel is bright: the values of another instrument, such as 12 bits in a file of 16."""

from __future__ import annotations

import numpy as np

from trainyard.data.problems import Problem
from trainyard.data.raw import RawDataset

LOOKED_AT = 1000
"""Images, evenly chosen."""
BRIGHT = 32
"""Of 255. Values of 12 bits in a file of 16 reach 16, those of 0 and 1 reach 1."""


def warn_of_dark(raw: RawDataset) -> tuple[Problem, ...]:
    """Return a warning where the brightest pixel of all images is nearly black, so that most shades were lost."""
    if "images" not in raw.arrays:
        return ()
    images = raw.arrays["images"]
    rows = range(0, len(images), -(-len(images) // LOOKED_AT) or 1)
    highest = max((int(np.max(images[row])) for row in rows), default=0)
    if highest >= BRIGHT:
        return ()
    found = f"no pixel above {highest} of 255 in {len(rows):,} images that were looked at, which leaves {highest + 1} shades"
    expected = (
        "if it is not meant, scale the files: times 16 where 12 bits stand in files of 16, times 255 where pixels are 0 and 1"
    )
    return (Problem(rule="dark-images", where=".", found=found, expected=expected, severity="warning"),)
