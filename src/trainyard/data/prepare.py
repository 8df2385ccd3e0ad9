"""Raw samples in, a packed data set out: split, fitted on the training split alone, written aside, renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import SPLITS, Card, content_sha256, file_sha256, write_arrays, write_card
from trainyard.data.raw import RawDataset
from trainyard.data.sources import DataConfig, load
from trainyard.data.splits import Indices, split_dataset
from trainyard.errors import MachineError

Arrays = dict[str, NDArray[Any]]


def prepare(name: str, config: DataConfig, out_dir: Path) -> Card:
    """Pack the data that a recipe asks for, and return its card.

    Raises:
        InputError: the samples cannot be split as asked.
        MachineError: the disk is full or read-only; nothing is left of the attempt.
    """
    raw = load(config)
    splits = split_dataset(raw, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed)
    temporary = out_dir.with_name(f".{out_dir.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        card = _pack(name, config, raw, splits.indices, splits.duplicates_dropped, temporary)
        shutil.rmtree(out_dir, ignore_errors=True)
        os.replace(temporary, out_dir)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise
        needed = sum(_size(array) for array in raw.arrays.values())
        free = shutil.disk_usage(_existing(out_dir)).free
        raise MachineError(
            f"{out_dir}: cannot be written ({error.strerror}; about {needed:,} bytes needed, {free:,} free); "
            "make room there, or make it writable, and run the same command again"
        ) from error
    return card


def _pack(name: str, config: DataConfig, raw: RawDataset, indices: Mapping[Any, Indices], dropped: int, folder: Path) -> Card:
    files: dict[str, str] = {}
    normalisation: dict[str, list[float]] = {}
    if raw.kind == "text_classification":
        parts, shape = _pack_texts(config, raw, indices, folder)
        files["tokenizer.json"] = file_sha256(folder / "tokenizer.json")
    else:
        parts = {split: {key: values[indices[split]] for key, values in raw.arrays.items()} for split in SPLITS}
        normalisation = _statistics(parts["train"]["images"])
        channels, height, width = (int(side) for side in raw.arrays["images"].shape[1:])
        shape = {"channels": channels, "height": height, "width": width}
    described: dict[str, dict[str, dict[str, Any]]] = {split: write_arrays(folder, split, parts[split]) for split in SPLITS}
    key = "masks" if raw.kind == "segmentation" else "labels"
    counts: dict[str, dict[str, int]] = {split: _count(parts[split][key], raw.classes) for split in SPLITS}
    card = Card(
        name=name,
        source=config.source,
        kind=raw.kind,
        about=raw.about,
        classes=raw.classes,
        counts=counts,
        samples={split: len(indices[split]) for split in SPLITS},
        input=shape,
        normalisation=normalisation,
        libraries=raw.libraries,
        arrays=described,
        files=files,
        duplicates_dropped=dropped,
        sha256=content_sha256(raw.classes, described, files),
    )
    write_card(folder, card)
    return card


def _pack_texts(
    config: DataConfig, raw: RawDataset, indices: Mapping[Any, Indices], folder: Path
) -> tuple[dict[str, Arrays], dict[str, int]]:
    """Fit the tokenizer on the training texts, and return token, offset, label and text arrays by split."""
    from trainyard.data.docstrings import DocstringsConfig
    from trainyard.data.text import encode, train_tokenizer

    if not isinstance(config, DocstringsConfig):
        raise TypeError(f"{config.source} gives texts without saying how to tokenize them")
    texts: list[str] = raw.arrays["texts"]
    tokenizer = train_tokenizer([texts[index] for index in indices["train"]], config.vocabulary_size, config.tokenizer)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    parts: dict[str, Arrays] = {}
    for split in SPLITS:
        chosen = [texts[index] for index in indices[split]]
        tokens, offsets = encode(tokenizer, chosen, config.max_tokens)
        encoded = [text.encode("utf-8") for text in chosen]
        parts[split] = {
            "tokens": tokens,
            "offsets": offsets,
            "labels": raw.arrays["labels"][indices[split]],
            "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "text_offsets": np.cumsum([0, *map(len, encoded)]).astype(np.int64),
        }
    return parts, {"vocabulary_size": tokenizer.get_vocab_size(), "max_length": config.max_tokens}


def _statistics(images: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel of images (N, C, H, W), pixels divided by 255.

    From the histogram of the 256 values, which is exact and needs no copy of the images as floats. A constant channel
    gets a deviation of 1.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        shares = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean = float((shares * values).sum())
        deviation = float(np.sqrt((shares * (values - mean) ** 2).sum()))
        means.append(mean)
        deviations.append(deviation or 1.0)
    return {"mean": means, "std": deviations}


def _count(targets: NDArray[Any], classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(targets.ravel(), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _size(array: Any) -> int:
    return array.nbytes if isinstance(array, np.ndarray) else sum(len(text) for text in array)


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
