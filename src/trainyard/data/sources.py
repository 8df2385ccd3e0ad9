"""Every source of data by name: one line in the union, and one case in `load`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainyard.data import digit_scenes, digits, docstrings
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.digits import DigitsConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.raw import Kind, RawDataset

DataConfig = Annotated[DigitsConfig | DigitScenesConfig | DocstringsConfig, Field(discriminator="source")]
KINDS: dict[str, Kind] = {
    "digits": "image_classification",
    "digit_scenes": "segmentation",
    "docstrings": "text_classification",
}
"""What each source's samples are for."""


def load(config: DataConfig) -> RawDataset:
    """Return the samples that a config asks for."""
    match config:
        case DigitsConfig():
            return digits.load(config)
        case DigitScenesConfig():
            return digit_scenes.load(config)
        case DocstringsConfig():
            return docstrings.load(config)
