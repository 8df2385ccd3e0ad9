"""Every source of data by name: one line in the union, and one case in `load`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from trainyard.data import (
    cifar_files,
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
from trainyard.data.cifar_files import CifarFilesConfig
from trainyard.data.descriptor import is_descriptor, plain, read_descriptor
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.digits import DigitsConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.idx_files import IdxFilesConfig
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.image_pieces import Progress
from trainyard.data.links import absent
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.raw import Kind, RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.text_table import TextTableConfig
from trainyard.errors import InputError

SampleConfig = (
    CifarFilesConfig
    | DigitsConfig
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
FROM_FOLDERS = {"cifar_files", "idx_files", "image_folder", "image_masks", "numpy_arrays"}
KINDS: dict[str, tuple[Kind, ...]] = {
    "cifar_files": ("image_classification",),
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
        progress: told now and then how far the fetching and the reading of many files is.

    Raises:
        DataError: listing everything that is wrong with the raw data.
        InputError: there is nothing at that path, or it cannot be read.
        ServiceError, IntegrityError, MachineError: a published data set cannot be fetched.
    """
    _check_path(root, config.path, config.source)
    if is_descriptor(config.path):
        return _load_published(config, root, scratch, progress)
    return _load(config, root, scratch, progress)


def _load_published(config: DataConfig, root: Path, scratch: Path, progress: Progress | None) -> RawDataset:
    """Return the samples of the data set that a descriptor names, after fetching it."""
    from trainyard.data.fetch import downloads_folder, fetch

    descriptor = read_descriptor(root / config.path)
    if descriptor.source != config.source:
        raise InputError(f"{config.path}: is for data.source: {descriptor.source}, found {config.source}; correct one of them")
    fetched = fetch(descriptor, downloads_folder(), progress=progress)
    there: Any = fetched.path
    raw = _load(replace(config, path=there), fetched.root, scratch, progress)
    return replace(raw, about=f"{plain(descriptor.about)} ({raw.about})", origin=descriptor.origin())


def _load(config: DataConfig, root: Path, scratch: Path, progress: Progress | None) -> RawDataset:  # noqa: C901 - a case each
    match config:
        case CifarFilesConfig():
            return cifar_files.load(config, root, scratch)
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


def _check_path(root: Path, path: str, source: str) -> None:
    if path == EMBEDDED:
        return
    if missing := absent(root, path):
        found, fix = missing
        raise InputError(f"{path}: {found}; {fix}, or correct data.path in params.yaml")
    is_folder = (root / path).is_dir()
    if source in FROM_FOLDERS and not is_folder and not is_descriptor(path):
        raise InputError(f"{path}: is a file; {source} reads a folder: correct data.path in params.yaml")
    if source == "series_csv" and is_folder:
        raise InputError(f"{path}: is a folder; {source} reads a file: name the one in it under data.path in params.yaml")
    if not os.access(root / path, os.R_OK):
        raise InputError(f"{path}: cannot be read; make it readable for this user")
