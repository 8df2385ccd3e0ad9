"""Pictures in two splits that are one picture: encoded again, resized, brightened, cropped a little.

A picture is its 16 x 16 thumbnail in grey, without mean and contrast; the distance of two is that of these vectors. How
alike pictures of a kind are differs (all ones of MNIST are, so are neighbouring slices of a tissue), so what counts is not
the distance alone: the nearest training picture must be far nearer than the fifth nearest (the ratio test of Lowe 2004,
https://doi.org/10.1023/B:VISI.0000029664.99615.94). So a picture with five copies or more in training is not told of.
Candidates come from 8 x 8 thumbnails, by products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from trainyard.data.parallel import in_order

Floats = NDArray[np.float32]

SIDE = 16
"""Of a thumbnail in pixels; candidates come from half of it."""
LEAST_ALIKE = 0.9
"""Correlation of two thumbnails, below which they are two pictures."""
LEAST_ALIKE_DRAWING = 0.996
"""For drawings on an empty ground, which share the ground: two digits of one class by two hands reach 0.995."""
EMPTY_SHARE, EMPTY_LEVELS = 0.5, 8
"""A drawing has more than this share of its thumbnail within so many grey levels; photographs have a tenth to a third."""
CANDIDATE_RATIO, RATIO = 0.35, 0.42
"""Of the distances to the nearest and the fifth nearest, at half size and in full. On MNIST, where no picture is in both
splits, the smallest ones of 10,000 are 0.22 and 0.45; copies in JPEG quality 75 have less than 0.16."""
NEIGHBOURS = 5
LEAST_CONTRAST = 4.0
"""Standard deviation in grey values; a flat picture is like any other flat one."""
BLOCK = 1024
MOST_PAIRS = 2 * 10**10
"""Compared, which takes a minute or two; of more pictures, an even sample of those held out is looked at."""
PIXELS_AT_ONCE = 2**22
PIECES_TO_SHARE = 16
"""Of fewer, one process is done before another one has begun."""
CORRELATIONS_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Two pictures that are one."""

    first: int
    """Row of the picture in the split that comes first."""
    second: int
    correlation: float


def find_alike(images: Any, splits: Mapping[str, NDArray[np.int64]]) -> list[Alike]:
    """Return pictures of each split beside the one of the splits before it that they are copies of.

    Args:
        images: (N, C, H, W) uint8, which may be memory-mapped.
        splits: rows by name, training first.
    """
    found: list[Alike] = []
    parts = [(rows, thumbnails(images, rows)) for rows in splits.values()]
    for number in range(1, len(parts)):
        rows, own = parts[number]
        before = np.concatenate([part[0] for part in parts[:number]])
        others = np.concatenate([part[1] for part in parts[:number]])
        for index, other, correlation in _copies(own, others):
            found.append(Alike(first=int(before[other]), second=int(rows[index]), correlation=correlation))
    return found


def thumbnails(images: Any, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return thumbnails in grey (rows, SIDE, SIDE), each pixel the mean of the area that it covers."""
    size = max(1, PIXELS_AT_ONCE // int(np.prod(images.shape[1:])))
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    parts = _shared(partial(_shrink, images=images), pieces)
    return np.concatenate([np.empty((0, SIDE, SIDE), dtype=np.uint8), *parts])


def _shrink(rows: NDArray[np.int64], images: Any) -> NDArray[np.uint8]:
    """Return the thumbnails of as many images as are held at once."""
    channels, height, width = images.shape[1:]
    grey = np.asarray(images[rows]).sum(axis=1, dtype=np.float32) / channels
    small: NDArray[np.uint8] = np.rint(_areas(height) @ (grey @ _areas(width).T)).astype(np.uint8)
    return small


def _shared(work: Callable[[Any], NDArray[Any]], pieces: Sequence[Any]) -> list[NDArray[Any]]:
    """Return `work(piece)` for each piece, worked on by all processors where there are enough pieces."""
    # One thread in each process: BLAS would start one a processor in all of them. And one number of threads, one result.
    with threadpool_limits(1, "blas"):
        return list(in_order(work, pieces, -1 if len(pieces) >= PIECES_TO_SHARE else 1))


def _areas(length: int) -> Floats:
    """Return (SIDE, length) the share that each pixel of a line has in each of SIDE equal pieces of it."""
    edges = np.linspace(0, length, SIDE + 1)
    starts = np.arange(length)
    covered = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return (covered.clip(min=0) * SIDE / length).astype(np.float32)


def _copies(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """Return (picture, other, correlation) where the nearest other one is far nearer than the rest."""
    step = max(1, -(-len(pictures) * len(others) // MOST_PAIRS))
    looked_at = np.arange(0, len(pictures), step)
    if len(others) < NEIGHBOURS:
        return []
    candidates = looked_at[_stand_out(_vectors(pictures[looked_at], 2), others)]
    found = []
    size = max(1, CORRELATIONS_AT_ONCE // len(others))
    for start in range(0, len(candidates), size):
        part = candidates[start : start + size]
        alike = _correlations(_vectors(pictures[part], 1), others)
        nearest = alike.argmax(axis=1)
        best = alike[np.arange(len(part)), nearest]
        fifth = np.partition(alike, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS]
        least = np.where(_empty_shares(pictures[part]) > EMPTY_SHARE, LEAST_ALIKE_DRAWING, LEAST_ALIKE)
        copies = (best >= least) & (_distance(best) <= RATIO * _distance(fifth))
        found += [(int(part[i]), int(nearest[i]), float(best[i])) for i in np.flatnonzero(copies)]
    return found


def _empty_shares(pictures: NDArray[np.uint8]) -> Floats:
    """Return (N,) the share of each picture's pixels in its most frequent grey levels."""
    levels = pictures.reshape(len(pictures), -1) // EMPTY_LEVELS
    counts = [np.bincount(picture).max() for picture in levels]
    return np.array(counts, dtype=np.float32) / np.float32(SIDE**2)


def _stand_out(vectors: Floats, others: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the vectors that may have a copy among the others: by the best of blocks, which takes one pass."""
    block = max(1, min(BLOCK, len(others) // (4 * NEIGHBOURS)))
    blocks = [range(start, min(start + block, len(others))) for start in range(0, len(others), block)]
    best = np.stack(_shared(partial(_best_of_block, vectors=vectors, others=others), blocks), axis=1)
    best.partition((best.shape[1] - NEIGHBOURS, best.shape[1] - 1), axis=1)
    nearest, fifth = best[:, -1], best[:, -NEIGHBOURS]
    return np.flatnonzero((nearest >= LEAST_ALIKE) & (_distance(nearest) <= CANDIDATE_RATIO * _distance(fifth)))


def _best_of_block(block: range, vectors: Floats, others: NDArray[np.uint8]) -> Floats:
    """Return (N,) the highest correlation of each vector with one block of the others."""
    against = _vectors(others[block.start : block.stop], 2).T
    best = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        best[start : start + BLOCK] = (vectors[start : start + BLOCK] @ against).max(axis=1)
    return best


def _correlations(vectors: Floats, others: NDArray[np.uint8]) -> Floats:
    starts = range(0, len(others), BLOCK)
    products: Floats = np.concatenate([vectors @ _vectors(others[start : start + BLOCK], 1).T for start in starts], axis=1)
    return products


def _vectors(pictures: NDArray[np.uint8], shrink: int) -> Floats:
    """Return vectors (N, pixels) of length 1, or of zeros for flat pictures, whose products are correlations."""
    side = SIDE // shrink
    areas = pictures.reshape(-1, side, shrink, side, shrink)
    small: Floats = areas.mean(axis=(2, 4), dtype=np.float32).reshape(len(pictures), -1)
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    small /= np.where(length < LEAST_CONTRAST * side, np.inf, length)
    return small


def _distance(correlation: Floats) -> Floats:
    distance: Floats = np.sqrt(np.maximum(0, 2 - 2 * correlation))
    return distance
