"""Samples drawn by chance, with the share of each class: the splits of scikit-learn's StratifiedShuffleSplit, to the bit.

That library takes a second to import, and stage `prepare` would use nothing else of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def draw_samples(strata: Integers, count: int, seed: int) -> tuple[Integers, Integers]:
    """Return the positions that stay, and those of `count` samples, both in an order of chance.

    Args:
        strata: (N,) the class of each sample.
        count: of the samples to draw.
        seed: of the chance.

    Raises:
        ValueError: a class cannot be on both sides.
    """
    _, class_of, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    stay = len(strata) - count
    for name, number in (("drawn", count), ("left", stay)):
        if number < len(sizes):
            raise ValueError(f"{number} would be {name}, which is less than one of each of {len(sizes)} classes")
    if sizes.min() < 2:
        raise ValueError("a class has one sample, which cannot be on both sides")
    chance = np.random.RandomState(seed)
    staying = _shares(sizes, stay, chance)
    drawn = _shares(sizes - staying, count, chance)
    kept, taken = [], []
    for members, first, more in zip(
        np.split(np.argsort(class_of, kind="stable"), np.cumsum(sizes)[:-1]), staying, drawn, strict=True
    ):
        mixed = members[chance.permutation(len(members))]
        kept.append(mixed[:first])
        taken.append(mixed[first : first + more])
    return chance.permutation(np.concatenate(kept)), chance.permutation(np.concatenate(taken))


def _shares(sizes: Integers, count: int, chance: np.random.RandomState) -> Integers:
    """Return how many samples of each class make `count` of them: its share, rounded down, and one more where most is lost."""
    exact = sizes / sizes.sum() * count
    whole = np.floor(exact)
    missing = int(count - whole.sum())
    lost = exact - whole
    for value in np.sort(np.unique(lost))[::-1]:
        if missing <= 0:
            break
        alike = np.flatnonzero(lost == value)
        chosen = chance.choice(alike, size=min(len(alike), missing), replace=False)
        whole[chosen] += 1
        missing -= len(chosen)
    shares: Integers = whole.astype(np.int64)
    return shares
