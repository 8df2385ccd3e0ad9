"""The packed data set: plain .npy arrays that memory-map, and card.json, which says what they are.

    <folder>/card.json   <folder>/{train,val,test}/<array>.npy   <folder>/tokenizer.json (texts)

image_classification: images (N, C, H, W) uint8, labels (N,) int64. segmentation: images, masks (N, H, W) uint8.
text_classification: tokens (sum of lengths,) int32 with offsets (N + 1,) int64, labels (N,) int64, and the raw text as
UTF-8 bytes (total,) uint8 with text_offsets (N + 1,) int64. forecasting: values (T, F) float32 with the starts (N,) int64 of
the windows, and window, mean and std, as series_windows.py says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.raw import Kind
from trainyard.errors import IntegrityError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a packed data set holds. Everything here is in card.json, under the same names."""

    name: str
    source: str
    kind: Kind
    about: str
    classes: tuple[str, ...]
    """Of the samples or pixels; the names of the targets for forecasting."""
    counts: dict[str, dict[str, int]]
    """By split, then by class: samples, or pixels for masks, or steps for forecasting."""
    samples: dict[str, int]
    """By split."""
    input: dict[str, int]
    """channels, height, width in pixels; or vocabulary_size and max_length in tokens; or num_features, and context_length and
    horizon in steps."""
    normalisation: dict[str, list[float]]
    """mean and std of each channel over the training split, pixels divided by 255, or of each column of a series; empty for
    texts."""
    libraries: dict[str, str]
    """Version of every library that the samples depend on."""
    arrays: dict[str, dict[str, dict[str, Any]]]
    """By split, then by array: dtype, shape and sha256 of the file."""
    files: dict[str, str]
    """sha256 of every other file beside the card."""
    duplicates_dropped: int
    """Samples left out because another one is equal to them."""
    sha256: str
    """Hash of all hashes above and the classes: the identity of the data."""
    columns: tuple[str, ...] = ()
    """Of a series: the names of its F columns, targets first."""


class Split:
    """One split of a packed data set, memory-mapped: `len(split)` samples."""

    def __init__(self, kind: Kind, name: SplitName, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.kind = kind
        self.name = name
        self.arrays = dict(arrays)

    def __len__(self) -> int:
        return len(self.arrays[{"segmentation": "masks", "forecasting": "starts"}.get(self.kind, "labels")])

    def text(self, index: int) -> str:
        """Return the raw text of one sample."""
        start, end = self.arrays["text_offsets"][index : index + 2]
        return bytes(self.arrays["text"][start:end]).decode("utf-8")


def write_arrays(folder: Path, split: SplitName, arrays: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Write the arrays of one split and return what the card says of them."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    described = {}
    for name, array in sorted(arrays.items()):
        path = folder / split / f"{name}.npy"
        with path.open("wb") as file:
            _write_array(file, np.ascontiguousarray(array))
        described[name] = {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": file_sha256(path)}
    return described


def _write_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write what numpy.save writes, through Python's file, which says why a write failed; numpy's own does not."""
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.reshape(-1).view(np.uint8).data)


def write_card(folder: Path, card: Card) -> None:
    """Write card.json."""
    (folder / "card.json").write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Return the card of a packed data set.

    Raises:
        IntegrityError: there is no card, or it is not one of ours.
    """
    path = folder / "card.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Card(**{**values, "classes": tuple(values["classes"]), "columns": tuple(values.get("columns", ()))})
    except FileNotFoundError:
        raise IntegrityError(f"{path}: no such file; run `dvc repro` to prepare the data") from None
    except (ValueError, TypeError, KeyError) as error:
        expected = ", ".join(field.name for field in fields(Card))
        raise IntegrityError(
            f"{path}: is not a data card ({error}); it must hold {expected}: run `dvc repro` to prepare the data again"
        ) from None


def open_split(folder: Path, name: SplitName, card: Card | None = None) -> Split:
    """Memory-map one split.

    Raises:
        IntegrityError: an array is missing, truncated or not of the type and shape that the card states.
    """
    card = card or read_card(folder)
    arrays = {}
    for array_name, described in card.arrays[name].items():
        path = folder / name / f"{array_name}.npy"
        try:
            # An empty array cannot be memory-mapped.
            mode: Literal["r"] | None = "r" if np.prod(described["shape"]) else None
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to prepare it again") from None
        if str(array.dtype) != described["dtype"] or list(array.shape) != described["shape"]:
            raise IntegrityError(
                f"{path}: holds {array.dtype} {array.shape}, the card says {described['dtype']} "
                f"{tuple(described['shape'])}; run `dvc repro` to prepare it again"
            )
        arrays[array_name] = array
    return Split(card.kind, name, arrays)


def verify(folder: Path, card: Card) -> None:
    """Hash every file of a packed data set and compare with the card.

    Raises:
        IntegrityError: naming the first file that changed since it was prepared.
    """
    expected = {
        f"{split}/{name}.npy": described["sha256"]
        for split, arrays in card.arrays.items()
        for name, described in arrays.items()
    }
    for relative, sha256 in {**expected, **card.files}.items():
        path = folder / relative
        if not path.is_file() or file_sha256(path) != sha256:
            raise IntegrityError(f"{path}: is not what the card was written for; run `dvc repro` to prepare it again")


def content_sha256(classes: tuple[str, ...], arrays: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the identity of a packed data set: one hash over its classes and the hashes of all its files."""
    text = json.dumps([list(classes), arrays, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
