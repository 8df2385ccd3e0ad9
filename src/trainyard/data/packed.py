"""The packed data set: plain .npy arrays that memory-map, and card.json, which says what they are.

    <folder>/card.json   <folder>/{train,val,test}/<array>.npy   <folder>/tokenizer.json (texts)
    <folder>/vectors.npy (word vectors to begin with: (vocabulary, numbers of each) float32, zeros where there is none)

image_classification: images (N, C, H, W) uint8, labels (N,) int64. segmentation: images, masks (N, H, W) uint8.
text_classification: tokens (sum of lengths,) int32 with offsets (N + 1,) int64, labels (N,) int64, and the raw text as
UTF-8 bytes (total,) uint8 with text_offsets (N + 1,) int64. forecasting: values (T, F) float32 with the starts (N,) int64 of
the windows, and window, mean and std, as series_windows.py says. Where samples have names (files, rows), all kinds hold names
(total,) uint8, UTF-8, with names_offsets (N + 1,) int64.

An array of more than a gibibyte is cut into <array>-00000.npy, <array>-00001.npy, ...: file systems, object stores and copies
over a network are at ease with files of bounded size.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.raw import Kind
from trainyard.data.shards import Shards
from trainyard.errors import InputError, IntegrityError

VECTORS = "vectors.npy"
CHUNK_BYTES = 8 * 2**20
"""Read and written at once while packing."""
SHARD_BYTES = 2**30
"""Most that a file of an array holds."""
AGAIN = "run `trainyard repair --cache`, then `dvc repro` to prepare it again"
"""Because DVC itself would not notice what rotted in its cache."""
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
    """By split, then by array: dtype, shape, and its files with their sha256 in order."""
    files: dict[str, str]
    """sha256 of every other file beside the card."""
    duplicates_dropped: int
    """Samples left out because another one is equal to them."""
    warnings: tuple[dict[str, Any], ...] = ()
    """What is odd about the raw data: rule, where, found, expected."""
    skipped: tuple[dict[str, Any], ...] = ()
    """Samples left out because they could not be used, as `on_bad_sample: skip` wants: rule, where, found, expected."""
    sha256: str
    """Hash of all hashes above and the classes: the identity of the data."""
    origin: dict[str, str] = field(default_factory=dict)
    """Of published data: name, licence, licence_url and citation."""
    columns: tuple[str, ...] = ()
    """Of a series: the names of its F columns, targets first."""
    step: int = 0
    """Of a series: microseconds from one row to the next; 0 where steps are months or longer, and in cards of before."""
    card_sha256: str = ""
    """Hash of everything else in the file; a card in memory has none."""


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
        return self._string("text", index)

    def sample_name(self, index: int) -> str:
        """Return where a sample comes from: its path in the raw data, `file:row`, or its position."""
        return self._string("names", index) if "names" in self.arrays else str(index)

    def _string(self, name: str, index: int) -> str:
        start, end = self.arrays[f"{name}_offsets"][index : index + 2]
        return bytes(self.arrays[name][start:end]).decode("utf-8")


def write_arrays(
    folder: Path, split: SplitName, arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64] | None = None
) -> dict[str, dict[str, Any]]:
    """Write the arrays of one split, a few megabytes at a time, and return what the card says of them.

    Args:
        folder: of the packed data set.
        split: its folder in there.
        arrays: what to write, by name; they may be memory-mapped and larger than the memory.
        rows: which of their rows go there, all of them where it is None.
    """
    (folder / split).mkdir(parents=True, exist_ok=True)
    return {name: _write_array(folder / split, name, array, rows) for name, array in sorted(arrays.items())}


def write_array(path: Path, array: NDArray[Any]) -> str:
    """Write an array as one file, a few megabytes at a time, and return its sha256."""
    return _write_shard(path, array, None, range(len(array)))


def _write_array(folder: Path, name: str, array: NDArray[Any], rows: NDArray[np.int64] | None) -> dict[str, Any]:
    """Write an array as one file or several, and return what the card says of it."""
    count = len(array) if rows is None else len(rows)
    shape = (count, *array.shape[1:])
    step = max(1, SHARD_BYTES // _row_bytes(array))
    starts = range(0, max(1, count), step)
    files = {}
    for number, start in enumerate(starts):
        file = f"{name}.npy" if len(starts) == 1 else f"{name}-{number:05d}.npy"
        part = range(start, min(start + step, count))
        files[file] = _write_shard(folder / file, array, rows, part)
    return {"dtype": str(array.dtype), "shape": list(shape), "files": files}


def _write_shard(path: Path, array: NDArray[Any], rows: NDArray[np.int64] | None, part: range) -> str:
    """Write what numpy.save writes, through Python's file, which says why a write failed; numpy's own does not."""
    shape = (len(part), *array.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    digest = hashlib.sha256(head.getvalue())
    chunk = max(1, CHUNK_BYTES // _row_bytes(array))
    with path.open("wb") as file:
        file.write(head.getvalue())
        for start in range(part.start, part.stop, chunk):
            some = slice(start, min(start + chunk, part.stop))
            piece = np.ascontiguousarray(array[some if rows is None else rows[some]]).reshape(-1).view(np.uint8).data
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _row_bytes(array: NDArray[Any]) -> int:
    return max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))


def string_arrays(name: str, strings: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return strings as UTF-8 bytes in a row, and where each one starts, as two arrays to pack."""
    encoded = [string.encode("utf-8", "backslashreplace") for string in strings]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}_offsets": offsets}


def write_card(folder: Path, card: Card) -> None:
    """Write card.json."""
    values = asdict(card)
    values["card_sha256"] = _card_sha256(values)
    (folder / "card.json").write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Return the card of a packed data set.

    Raises:
        IntegrityError: there is no card, or it is not one of ours.
    """
    path = folder / "card.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (written := values.get("card_sha256")) and written != _card_sha256(values):
            raise ValueError("it was changed since it was written")
        entries: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return Card(**{**entries, "card_sha256": ""})
    except FileNotFoundError:
        raise IntegrityError(f"{path}: no such file; run `dvc repro` to prepare the data") from None
    except (ValueError, TypeError, AttributeError) as error:
        expected = ", ".join(entry.name for entry in fields(Card))
        raise IntegrityError(f"{path}: is not a data card ({error}); it must hold {expected}: {AGAIN}") from None


def _card_sha256(values: Mapping[str, Any]) -> str:
    others = {key: value for key, value in values.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def open_split(folder: Path, name: SplitName, card: Card | None = None) -> Split:
    """Memory-map one split.

    Raises:
        IntegrityError: an array is missing, truncated or not of the type and shape that the card states.
    """
    card = card or read_card(folder)
    arrays = {array_name: open_array(folder / name, described) for array_name, described in card.arrays[name].items()}
    return Split(card.kind, name, arrays)


def open_array(folder: Path, described: Mapping[str, Any]) -> Any:
    """Memory-map an array of a split's folder that the card describes so.

    Raises:
        IntegrityError: as for `open_split`.
    """
    # An empty array cannot be memory-mapped.
    mode: Literal["r"] | None = "r" if np.prod(described["shape"]) else None
    parts: list[NDArray[Any]] = []
    for file in described["files"]:
        try:
            parts.append(np.load(folder / file, mmap_mode=mode, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise IntegrityError(f"{folder / file}: cannot be read ({error}); {AGAIN}") from None
    rows, *rest = described["shape"]
    if sum(map(len, parts)) != rows or any((str(p.dtype), list(p.shape[1:])) != (described["dtype"], rest) for p in parts):
        raise IntegrityError(
            f"{folder / next(iter(described['files']))}: holds {parts[0].dtype} {parts[0].shape}, the card says "
            f"{described['dtype']} {tuple(described['shape'])}; {AGAIN}"
        )
    # As plain arrays, which share the map: numpy's own class for it does as much again at each access.
    parts = [part.view(np.ndarray) for part in parts]
    return parts[0] if len(parts) == 1 else Shards(parts)


def verify(folder: Path, card: Card) -> None:
    """Hash every file of a packed data set and compare with the card.

    Raises:
        IntegrityError: naming the first file that changed since it was prepared.
    """
    for relative, sha256 in hashes(card).items():
        path = folder / relative
        if not path.is_file() or file_sha256(path) != sha256:
            raise IntegrityError(f"{path}: is not what the card was written for; {AGAIN}")


def hashes(card: Card) -> dict[str, str]:
    """Return the sha256 of every file of a packed data set, by its path in there."""
    arrays = {
        f"{split}/{file}": sha256
        for split, arrays in card.arrays.items()
        for described in arrays.values()
        for file, sha256 in described["files"].items()
    }
    return {**arrays, **card.files}


def content_sha256(classes: tuple[str, ...], arrays: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the identity of a packed data set: one hash over its classes and the hashes of all its files."""
    text = json.dumps([list(classes), arrays, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_stated(path: Path, shown: object, stated: str | None, block: str) -> None:
    """Refuse a file that is not the one that a recipe states by its hash.

    Args:
        path: of the file.
        shown: its path in messages.
        stated: its sha256, as the recipe has it.
        block: of the recipe, which holds the key `sha256`.

    Raises:
        InputError: no hash is stated; the message says which one it is.
        IntegrityError: it is another file.
    """
    found = file_sha256(path)
    if stated is None:
        raise InputError(
            f"{block}.sha256: is missing, so a file that changes would not be noticed; if {shown} is the right one, "
            f"write sha256: {found}"
        )
    if found != stated:
        raise IntegrityError(
            f"{shown}: has sha256 {found}, {block}.sha256 says {stated}; get the right file, or state the new hash"
        )
