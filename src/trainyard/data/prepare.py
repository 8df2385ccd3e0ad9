"""Raw samples in, a packed data set out: split, fitted on the training split alone, written aside, renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data import series_windows
from trainyard.data.card_page import write_page
from trainyard.data.packed import (
    CHUNK_BYTES,
    SPLITS,
    VECTORS,
    Card,
    SplitName,
    content_sha256,
    file_sha256,
    open_array,
    string_arrays,
    write_array,
    write_arrays,
    write_card,
)
from trainyard.data.problems import Problem, disk_error
from trainyard.data.raw import RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.series_time import usual_step
from trainyard.data.sources import DataConfig, SampleConfig, load
from trainyard.data.splits import Indices, split_dataset

COUNTED_ROWS = 1000


@dataclass(slots=True, kw_only=True)
class _Packed:
    """What was written, as the card says it."""

    arrays: dict[str, dict[str, dict[str, Any]]]
    input: dict[str, int]
    files: dict[str, str] = field(default_factory=dict)
    about: str = ""
    """Behind what the raw data say of themselves."""
    warnings: list[Problem] = field(default_factory=list)


def prepare(
    name: str,
    config: DataConfig,
    out_dir: Path,
    *,
    root: Path | None = None,
    scratch: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Card:
    """Pack the data that a recipe asks for, and return its card.

    Args:
        name: of the recipe.
        config: its `data` block.
        out_dir: where the packed data set goes; what is there is replaced once the new one is whole.
        root: what `config.path` is relative to, the current folder where it is None.
        scratch: keeps what an interrupted run has read so far.
        progress: told now and then how far the reading of many files is.

    Raises:
        DataError: listing everything that is wrong with the raw data.
        InputError: the samples cannot be split as asked.
        MachineError: the disk is full, read-only or failing; nothing is left of the attempt.
    """
    temporary = out_dir.with_name(f".{out_dir.name}.tmp")
    scratch = scratch or out_dir.with_name(f".{out_dir.name}.read")
    root = root or Path.cwd()
    try:
        raw = load(config, root, scratch, progress)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        card = (
            _pack_series(name, config, raw, temporary)
            if isinstance(config, SeriesCSVConfig)
            else _pack(name, config, raw, temporary, root)
        )
        write_card(temporary, card)
        write_page(temporary, card)
        shutil.rmtree(out_dir, ignore_errors=True)
        os.replace(temporary, out_dir)
        shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        problem = disk_error(error, root / config.path, out_dir, "make room there, or make it writable")
        if problem is None:
            raise
        raise problem from error
    return card


def _pack_series(name: str, config: SeriesCSVConfig, raw: RawDataset, folder: Path) -> Card:
    """Write windows of series and return the card."""
    packed = series_windows.pack(raw, config)
    described: dict[str, dict[str, dict[str, Any]]]
    described = {split: write_arrays(folder, split, packed.arrays[split]) for split in SPLITS}
    return Card(
        name=name,
        source=config.source,
        kind=raw.kind,
        about=raw.about,
        classes=raw.classes,
        columns=packed.columns,
        step=usual_step(raw.arrays["time"][: raw.arrays["offsets"][1]]),
        counts=packed.counts,
        samples=packed.samples,
        input=packed.input,
        normalisation=packed.normalisation,
        libraries=raw.libraries,
        origin=raw.origin,
        arrays=described,
        files={},
        duplicates_dropped=0,
        warnings=tuple(problem.to_json() for problem in raw.warnings),
        sha256=content_sha256(packed.columns, described, {}),
    )


def _pack(name: str, config: SampleConfig, raw: RawDataset, folder: Path, root: Path) -> Card:
    """Write the samples of all splits and return the card."""
    splits = split_dataset(raw, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed)
    rows = splits.indices
    if raw.kind == "text_classification":
        packed = _pack_texts(config, raw, rows, folder, root)
    else:
        packed = _Packed(
            arrays={split: write_arrays(folder, split, raw.arrays, rows[split]) for split in SPLITS}, input=raw.input()
        )
    described = packed.arrays
    if raw.names:
        for split in SPLITS:
            described[split] |= write_arrays(folder, split, string_arrays("names", [raw.names[row] for row in rows[split]]))
    images = None if raw.kind == "text_classification" else open_array(folder / "train", described["train"]["images"])
    key = "masks" if raw.kind == "segmentation" else "labels"
    return Card(
        name=name,
        source=config.source,
        kind=raw.kind,
        about=raw.about + packed.about,
        classes=raw.classes,
        counts={split: _count(raw.arrays[key], rows[split], raw.classes) for split in SPLITS},
        samples={split: len(rows[split]) for split in SPLITS},
        input=packed.input,
        normalisation={} if images is None else _statistics(images),
        libraries=raw.libraries,
        origin=raw.origin,
        arrays=described,
        files=packed.files,
        duplicates_dropped=splits.duplicates_dropped,
        warnings=tuple(problem.to_json() for problem in (*raw.warnings, *splits.warnings, *packed.warnings)),
        skipped=tuple(problem.to_json() for problem in raw.skipped),
        sha256=content_sha256(raw.classes, described, packed.files),
    )


def _pack_texts(config: SampleConfig, raw: RawDataset, rows: Mapping[SplitName, Indices], folder: Path, root: Path) -> _Packed:
    """Fit the tokenizer on the training texts, and write it, what is known of its words, and the tokens, offsets, labels and
    texts of each split."""
    from trainyard.data.vocabulary import encode_texts

    encoded = encode_texts(config, raw.arrays["texts"], rows, root)
    tokenizer, vectors = encoded.vocabulary.tokenizer, encoded.vocabulary.vectors
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    packed = _Packed(arrays={}, input=encoded.input, warnings=list(encoded.warnings))
    packed.files["tokenizer.json"] = file_sha256(folder / "tokenizer.json")
    if vectors is not None:
        packed.files[VECTORS] = write_array(folder / VECTORS, vectors.table)
        packed.about = f", with {vectors.about}"
    for split, (tokens, offsets) in encoded.tokens.items():
        arrays = {"tokens": tokens, "offsets": offsets, "labels": raw.arrays["labels"][rows[split]]}
        packed.arrays[split] = write_arrays(folder, split, {**arrays, **string_arrays("text", encoded.texts[split])})
    return packed


def _statistics(images: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel of images (N, C, H, W), pixels divided by 255.

    From the histogram of the 256 values, which is exact and needs no copy of the images as floats. A constant channel
    gets a deviation of 1.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    rows = max(1, CHUNK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for channel in range(images.shape[1]):
        pieces = (images[start : start + rows][:, channel] for start in range(0, len(images), rows))
        counts = sum((np.bincount(piece.ravel(), minlength=256) for piece in pieces), np.zeros(256, dtype=np.int64))
        shares = counts / counts.sum()
        mean = float((shares * values).sum())
        deviation = float(np.sqrt((shares * (values - mean) ** 2).sum()))
        means.append(mean)
        deviations.append(deviation or 1.0)
    return {"mean": means, "std": deviations}


def _count(targets: NDArray[Any], rows: Indices, classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.zeros(len(classes), dtype=np.int64)
    for start in range(0, len(rows), COUNTED_ROWS):
        counts += np.bincount(np.asarray(targets[rows[start : start + COUNTED_ROWS]]).ravel(), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))
