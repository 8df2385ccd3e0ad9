"""Every source of data by name: one line in the union, and one case in `load`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from trainyard.data import (
    digit_scenes,
    digits,
    docstrings,
    idx_files,
    image_folder,
    image_masks,
    numpy_arrays,
    series_csv,
    text_table,
)
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.digits import DigitsConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.idx_files import IdxFilesConfig
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.image_pieces import Progress
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.raw import Kind, RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.text_table import TextTableConfig
from trainyard.errors import InputError

SampleConfig = (
    DigitsConfig
    | DigitScenesConfig
    | DocstringsConfig
    | IdxFilesConfig
    | ImageFolderConfig
    | ImageMasksConfig
    | NumpyArraysConfig
    | TextTableConfig
)
"""Of sources whose samples are split one by one, or group by group."""
DataConfig = Annotated[SampleConfig | SeriesCSVConfig, Field(discriminator="source")]
EMBEDDED = "requirements.lock"
"""The path of data that come with the libraries."""
KINDS: dict[str, tuple[Kind, ...]] = {
    "digits": ("image_classification",),
    "digit_scenes": ("segmentation",),
    "docstrings": ("text_classification",),
    "idx_files": ("image_classification",),
    "image_folder": ("image_classification",),
    "image_masks": ("segmentation",),
    "numpy_arrays": ("image_classification", "segmentation"),
    "series_csv": ("forecasting",),
    "text_table": ("text_classification",),
}
"""What each source's samples can be for."""


def load(config: DataConfig, root: Path, scratch: Path, progress: Progress | None = None) -> RawDataset:
    """Return the samples that a config asks for.

    Args:
        config: names the source.
        root: what its path is relative to.
        scratch: where a source may keep what it has read, so that an interrupted run continues.
        progress: told now and then how far the reading of many files is.

    Raises:
        DataError: listing everything that is wrong with the raw data.
        InputError: there is nothing at that path, or it cannot be read.
    """
    _check_path(root, config.path)
    match config:
        case DigitsConfig():
            return digits.load(config)
        case DigitScenesConfig():
            return digit_scenes.load(config)
        case DocstringsConfig():
            return docstrings.load(config)
        case IdxFilesConfig():
            return idx_files.load(config, root, scratch)
        case ImageFolderConfig():
            return image_folder.load(config, root, scratch, progress=progress)
        case ImageMasksConfig():
            return image_masks.load(config, root, scratch, progress=progress)
        case NumpyArraysConfig():
            return numpy_arrays.load(config, root, scratch)
        case SeriesCSVConfig():
            return series_csv.load(config, root, scratch)
        case TextTableConfig():
            return text_table.load(config, root)


def _check_path(root: Path, path: str) -> None:
    if path == EMBEDDED:
        return
    if not os.path.lexists(root / path):
        raise InputError(f"{path}: no such file or folder; put the data there, or correct data.path in params.yaml")
    if not os.access(root / path, os.R_OK):
        raise InputError(f"{path}: cannot be read; make it readable for this user")
