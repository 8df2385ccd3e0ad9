"""Every source of data by name: one line in the union, and one case in `load`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from trainyard.data import digit_scenes, digits, docstrings, idx_files, numpy_arrays
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.digits import DigitsConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.idx_files import IdxFilesConfig
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.raw import Kind, RawDataset

DataConfig = Annotated[
    DigitsConfig | DigitScenesConfig | DocstringsConfig | IdxFilesConfig | NumpyArraysConfig,
    Field(discriminator="source"),
]
KINDS: dict[str, tuple[Kind, ...]] = {
    "digits": ("image_classification",),
    "digit_scenes": ("segmentation",),
    "docstrings": ("text_classification",),
    "idx_files": ("image_classification",),
    "numpy_arrays": ("image_classification", "segmentation"),
}
"""What each source's samples can be for."""


def load(config: DataConfig, root: Path, scratch: Path) -> RawDataset:
    """Return the samples that a config asks for.

    Args:
        config: names the source.
        root: what its path is relative to.
        scratch: where a source may keep what it has read, so that an interrupted run continues.
    """
    match config:
        case DigitsConfig():
            return digits.load(config)
        case DigitScenesConfig():
            return digit_scenes.load(config)
        case DocstringsConfig():
            return docstrings.load(config)
        case IdxFilesConfig():
            return idx_files.load(config, root, scratch)
        case NumpyArraysConfig():
            return numpy_arrays.load(config, root, scratch)
