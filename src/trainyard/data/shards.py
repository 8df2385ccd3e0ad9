"""An array in several files of bounded size, memory-mapped and read as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Shards:
    """The rows of several arrays, one after another: what numpy would read from one file of them all.

    Args:
        parts: arrays (N_i, ...) of one dtype, and of one shape beyond the first axis.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in parts])
        self.dtype = parts[0].dtype
        self.shape: tuple[int, ...] = (int(self.ends[-1]), *parts[0].shape[1:])

    @property
    def size(self) -> int:
        """Numbers in all of it."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        """Return a row, or a copy of some rows.

        Args:
            key: a row, a slice of rows, rows in an array of any shape, or a mask (N,) bool.
        """
        if isinstance(key, slice):
            return self._take(np.arange(*key.indices(len(self))))
        rows = np.asarray(key)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} for {len(self)} rows")
            rows = np.flatnonzero(rows)
        return self._take(rows)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows."""
        if copy is False:
            raise ValueError("an array of several files can only be copied")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _take(self, rows: NDArray[Any]) -> NDArray[Any]:
        flat = rows.reshape(-1).astype(np.int64)
        if len(flat) and not -len(self) <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"row {flat.max() if flat.max() >= len(self) else flat.min()} of {len(self)}")
        flat = np.where(flat < 0, flat + len(self), flat)
        part_of = np.searchsorted(self.ends, flat, side="right")
        taken = np.empty((len(flat), *self.shape[1:]), dtype=self.dtype)
        for number in np.unique(part_of):
            inside = np.flatnonzero(part_of == number)
            start = self.ends[number] - len(self.parts[number])
            taken[inside] = self.parts[number][flat[inside] - start]
        return taken.reshape(*rows.shape, *self.shape[1:])
