"""A packed data set with fewer training samples, and the same samples to validate and test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Card, Split, content_sha256, open_split, read_card, write_arrays, write_card
from trainyard.errors import InputError

RAGGED = (("tokens", "offsets"), ("text", "text_offsets"), ("names", "names_offsets"))
"""Arrays of samples of different lengths, each with the array that says where they begin."""


def subset(source: Path, target: Path, fraction: float, seed: int) -> Card:
    """Write `target`: a share of the training samples of `source`, drawn class by class; of a series, its last windows.

    Normalisation and vocabulary stay those of the whole training split, so that the shares differ in their samples alone.

    Raises:
        InputError: the share is too small for one sample of each class.
        IntegrityError: the source cannot be read.
    """
    card = read_card(source)
    train = open_split(source, "train", card)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rows = chosen_rows(train, fraction, seed)
    arrays = {**card.arrays, "train": write_arrays(target, "train", rows_of(train, rows))}
    for entry in source.iterdir():
        if entry.name not in ("train", "card.json"):
            (target / entry.name).symlink_to(entry.resolve())
    found = replace(
        card,
        arrays=arrays,
        samples={**card.samples, "train": len(rows)},
        counts={**card.counts, "train": _counts(train, rows, card)},
        sha256=content_sha256(card.classes, arrays, card.files),
    )
    write_card(target, found)
    return found


def chosen_rows(train: Split, fraction: float, seed: int) -> NDArray[np.int64]:
    """Return the rows (n,) of a share of the training samples, in ascending order; a smaller share is part of a larger one.

    Raises:
        InputError: the share is too small for one sample of each class.
    """
    count = round(fraction * len(train))
    if fraction >= 1:
        return np.arange(len(train))
    if count < 1:
        raise InputError(f"{fraction:.0%} of {len(train):,} training samples is none; ask for a larger share")
    if train.kind == "forecasting":
        # What is known of a series when less of it was recorded: its end, next to what is tested.
        return np.arange(len(train) - count, len(train))
    if train.kind == "segmentation":
        return np.sort(_ranked(np.zeros(len(train), dtype=np.int64), seed)[:count])
    labels = np.asarray(train.arrays["labels"])
    rows = _ranked(labels, seed)[:count]
    if missing := set(np.unique(labels).tolist()) - set(labels[rows].tolist()):
        raise InputError(
            f"{fraction:.0%} of {len(train):,} training samples holds none of {len(missing)} of the classes; "
            "ask for a larger share"
        )
    return np.sort(rows)


def rows_of(split: Split, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the arrays of some samples."""
    if split.kind == "forecasting":
        return {**split.arrays, "starts": split.arrays["starts"][rows]}
    found = {}
    ragged = {name for pair in RAGGED for name in pair}
    for name, array in split.arrays.items():
        if name not in ragged:
            found[name] = array[rows]
    for values, offsets in RAGGED:
        if values in split.arrays:
            found[values], found[offsets] = _ragged(split.arrays[values], np.asarray(split.arrays[offsets]), rows)
    return found


def _ragged(
    values: NDArray[Any], offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    lengths = offsets[rows + 1] - offsets[rows]
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(offsets.dtype)
    places = np.arange(begins[-1]) + np.repeat(offsets[rows] - begins[:-1], lengths)
    return values[places], begins


def _ranked(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return all rows (N,) in an order of chance in which every class is spread evenly, so that any beginning is stratified."""
    rng = np.random.Generator(np.random.Philox(key=[seed, len(labels)]))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((rng.permutation(len(labels)), place))


def _counts(train: Split, rows: NDArray[np.int64], card: Card) -> dict[str, int]:
    """Return the samples of each class, or the pixels of each; of a series the steps stay what they were."""
    if train.kind == "forecasting":
        return card.counts["train"]
    truth = train.arrays["masks" if train.kind == "segmentation" else "labels"][rows]
    counts = np.bincount(np.asarray(truth).ravel(), minlength=len(card.classes))
    return {name: int(count) for name, count in zip(card.classes, counts, strict=True)}
