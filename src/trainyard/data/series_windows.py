"""Series cut by time into train, val and test, standardised by the training part, and the windows that are samples.

Packed form of kind forecasting, by split:
    values (T, F) float32    targets first; the split's steps, and before them the context of its first window,
                             of all series behind one another; (x - mean) / std
    starts (N,) int64        first row of each window: context_length rows that are seen, then horizon that are forecast
    window (3,) int64        context_length, horizon, number of targets D
    mean, std (F,) float64   over the training steps of all series

A window never crosses from one series into another. All its targets are in its split; its context may reach back into
the split before, as on the benchmarks of Zhou 2021, arXiv:2012.07436.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import SPLITS, SplitName
from trainyard.data.raw import RawDataset
from trainyard.errors import InputError

if TYPE_CHECKING:
    from trainyard.data.series_csv import SeriesCSVConfig

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSeries:
    """The arrays of each split, and what the card says of them."""

    arrays: dict[SplitName, Arrays]
    input: dict[str, int]
    """num_features, context_length and horizon in steps."""
    normalisation: dict[str, list[float]]
    """mean and std of each column over the training steps."""
    counts: dict[str, dict[str, int]]
    """By split, then by target: steps that may be forecast and hold a number."""
    samples: dict[str, int]
    """By split: windows."""
    columns: tuple[str, ...]
    """Names of the F columns of `values`, targets first."""


def borders(length: int, config: SeriesCSVConfig) -> tuple[int, int, int, int]:
    """Return where train, val and test begin in a series of so many steps, and where test ends."""
    if config.train_steps is not None and config.val_steps is not None and config.test_steps is not None:
        ends = np.cumsum([config.train_steps, config.val_steps, config.test_steps]).clip(max=length)
        return 0, int(ends[0]), int(ends[1]), int(ends[2])
    test, val = round(config.test_fraction * length), round(config.val_fraction * length)
    return 0, length - test - val, length - test, length


def pack(raw: RawDataset, config: SeriesCSVConfig) -> PackedSeries:
    """Cut, fill and standardise the series that `series_csv.load` returned.

    Raises:
        InputError: missing numbers leave a split without a window.
    """
    values, offsets = raw.arrays["values"], raw.arrays["offsets"]
    series = [values[start:end] for start, end in pairwise(offsets)]
    ends = [borders(len(part), config) for part in series]
    filled = [_fill(part, end) for part, end in zip(series, ends, strict=True)]
    training = np.concatenate([part[: end[1]] for part, end in zip(filled, ends, strict=True)])
    mean, std = training.mean(axis=0), training.std(axis=0)
    # A constant column has a deviation of rounding errors.
    std = np.where(std > 1e-9 * np.abs(mean), std, 1.0)
    window = np.array([config.context_length, config.horizon, len(raw.classes)], dtype=np.int64)
    arrays: dict[SplitName, Arrays] = {}
    counts: dict[str, dict[str, int]] = {}
    for number, split in enumerate(SPLITS):
        parts, starts, rows, known = [], [], 0, np.zeros(values.shape[1], dtype=np.int64)
        for original, part, end in zip(series, filled, ends, strict=True):
            first = max(0, end[number] - config.context_length)
            missing = np.isnan(original[first : end[number + 1]])
            starts.append(rows + _starts(missing, config, end[number] - first))
            parts.append((part[first : end[number + 1]] - mean) / std)
            rows += len(parts[-1])
            known += (~missing[end[number] - first :]).sum(axis=0)
        arrays[split] = {
            "values": np.concatenate(parts).astype(np.float32),
            "starts": np.concatenate(starts).astype(np.int64),
            "window": window,
            "mean": mean,
            "std": std,
        }
        counts[split] = dict(zip(raw.classes, known.tolist(), strict=False))
        if not len(arrays[split]["starts"]):
            raise InputError(f"split {split}: has no window whose context ends with a number; fill in what is missing")
    return PackedSeries(
        arrays=arrays,
        input={
            "num_features": values.shape[1],
            "context_length": config.context_length,
            "horizon": config.horizon,
        },
        normalisation={"mean": mean.tolist(), "std": std.tolist()},
        counts=counts,
        samples={split: len(part["starts"]) for split, part in arrays.items()},
        columns=(*raw.classes, *config.features),
    )


def _starts(missing: NDArray[np.bool_], config: SeriesCSVConfig, context: int) -> NDArray[np.int64]:
    """Return the windows of one series and split, whose rows begin `context` steps before the split.

    A context whose last step is missing is left out: the line that fills it comes from the targets.
    """
    length = config.context_length
    starts = np.arange(max(0, context - length), len(missing) - length - config.horizon + 1, config.stride)
    return starts[~missing[starts + length - 1].any(axis=1)]


def _fill(values: Floats, ends: tuple[int, ...]) -> Floats:
    """Return a series (T, F) with straight lines where numbers are missing, drawn within each split alone.

    What is missing at the beginning of a split takes the last number before it, and at its end the last one in it.
    """
    filled = values.copy()
    for start, end in pairwise(ends):
        for column in filled.T:
            part = column[max(0, start - 1) : end]
            known = ~np.isnan(part)
            if known.any() and not known.all():
                part[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), part[known])
    return filled
