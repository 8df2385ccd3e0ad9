"""Equal samples: which one stays, and what is said of the others, and of pictures that are almost equal."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.near_duplicates import find_alike
from trainyard.data.parallel import in_order
from trainyard.data.problems import Problem
from trainyard.data.raw import TO_DIVIDE, RawDataset

HASHED_AT_ONCE = 4096
"""Samples."""
LISTED = 20
"""Pairs of a kind that the card lists."""
SPLIT_NAMES = {0: "train", 1: "val", 2: "test", TO_DIVIDE: "the rest"}


def drop_duplicates(raw: RawDataset) -> tuple[NDArray[np.int64], tuple[Problem, ...]]:
    """Return the samples without those whose input equals another's, in ascending order, and what to say of those.

    Equal inputs with different labels count as duplicates too: in two splits they would leak just the same. Where the
    source itself names the splits, the copy in the test split stays, or else that in the validation split: what is
    tested on must not have been trained on, and test scores stay comparable with others' on the same split.
    """
    inputs = raw.arrays["texts"] if raw.kind == "text_classification" else raw.arrays["images"]
    pieces = [range(start, min(start + HASHED_AT_ONCE, len(inputs))) for start in range(0, len(inputs), HASHED_AT_ONCE)]
    # Texts are held in memory and hashed at once; images are read from the disk.
    workers = -1 if len(pieces) > 1 and raw.kind != "text_classification" else 1
    parts = in_order(partial(_digests, inputs=inputs), pieces, workers)
    digests = np.fromiter((digest for part in parts for digest in part), dtype="S32", count=len(inputs))
    order = np.arange(len(raw)) if raw.split is None else np.argsort(-raw.split, kind="stable")
    _, first, inverse = np.unique(digests[order], return_index=True, return_inverse=True)
    stays = np.empty(len(raw), dtype=np.int64)
    stays[order] = order[first][inverse]
    dropped = np.flatnonzero(stays != np.arange(len(raw)))
    return np.flatnonzero(stays == np.arange(len(raw))), tuple(_warnings(raw, dropped, stays))


def warn_of_copies(raw: RawDataset, splits: Mapping[str, NDArray[np.int64]]) -> tuple[Problem, ...]:
    """Return a warning of pictures in two splits that are one, encoded again or resized; they stay where they are.

    Args:
        raw: with images; of texts nothing is said.
        splits: rows by name, training first.
    """
    if "images" not in raw.arrays:
        return ()
    split_of = {int(row): name for name, rows in splits.items() for row in rows}
    pairs = [
        f"{_name(raw, pair.second)} ({split_of[pair.second]}) ~ {_name(raw, pair.first)} ({split_of[pair.first]})"
        for pair in find_alike(raw.arrays["images"], splits)
    ]
    if not pairs:
        return ()
    expected = "each picture in one split; nothing was left out: look at the pairs, and delete one of each"
    where = pairs[0].partition(" (")[0]
    found = f"almost the same picture in two splits, {_counted(pairs)}"
    return (Problem(rule="alike-in-two-splits", where=where, found=found, expected=expected, severity="warning"),)


def _warnings(raw: RawDataset, dropped: NDArray[np.int64], stays: NDArray[np.int64]) -> list[Problem]:
    """Return one warning a kind for splits that share samples and for equal samples with two labels."""
    pairs: dict[str, list[str]] = defaultdict(list)
    for sample in dropped:
        kept = stays[sample]
        if raw.split is not None and raw.split[sample] != raw.split[kept]:
            places = SPLIT_NAMES[int(raw.split[sample])], SPLIT_NAMES[int(raw.split[kept])]
            pairs["equal-in-two-splits"].append(f"{_name(raw, sample)} ({places[0]}) = {_name(raw, kept)} ({places[1]})")
        if "labels" in raw.arrays and raw.arrays["labels"][sample] != raw.arrays["labels"][kept]:
            labels = (raw.classes[int(raw.arrays["labels"][number])] for number in (sample, kept))
            pairs["equal-with-two-labels"].append(
                " = ".join(f"{_name(raw, number)} ({label})" for number, label in zip((sample, kept), labels, strict=True))
            )
    expected = {
        "equal-in-two-splits": "each sample in one split; the copy that is tested on was kept, the others left out",
        "equal-with-two-labels": "one label for one input; the first was kept, the others left out: correct the labels",
    }
    return [
        Problem(
            rule=rule,
            where=listed[0].partition(" (")[0],
            found=_counted(listed),
            expected=expected[rule],
            severity="warning",
        )
        for rule, listed in pairs.items()
    ]


def _counted(pairs: list[str]) -> str:
    noun = "pairs" if len(pairs) > 1 else "pair"
    return f"{len(pairs):,} {noun}: {'; '.join(pairs[:LISTED])}{'; ...' if len(pairs) > LISTED else ''}"


def _name(raw: RawDataset, sample: int | np.int64) -> str:
    return raw.names[int(sample)] if raw.names else f"sample {sample}"


def _digests(rows: range, inputs: Any) -> list[bytes]:
    return [_digest(inputs[row]) for row in rows]


def _digest(sample: str | NDArray[np.uint8]) -> bytes:
    """Return the same hash for equal samples; texts that differ in case, spaces or width are equal to any tokenizer here."""
    if isinstance(sample, str):
        content = " ".join(unicodedata.normalize("NFKC", sample).casefold().split()).encode("utf-8", "surrogatepass")
    else:
        content = sample.tobytes()
    return hashlib.sha256(content).digest()
