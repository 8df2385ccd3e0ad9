"""Whole groups of samples divided among splits, so that each split gets its share of every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def divide_groups(
    strata: NDArray[np.int64], groups: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Return (N,) the split of each sample, all samples of a group in one split.

    From the largest group to the smallest, each goes where it takes most from the sum, over splits and classes, of
    (samples there - samples wanted)^2 / samples wanted. Groups of a size within a factor of 2 are taken by chance.

    Args:
        strata: (N,) the class of each sample.
        groups: (N,) the number of each sample's group.
        fractions: share of each split; they add up to 1.
        seed: of the order of groups.
    """
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    classes, class_of = np.unique(strata, return_inverse=True)
    holds: list[list[tuple[int, int]]] = [[] for _ in sizes]
    cells, counts = np.unique(group_of * len(classes) + class_of, return_counts=True)
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        holds[cell // len(classes)].append((cell % len(classes), count))
    chance = np.random.default_rng(seed).permutation(len(sizes))
    order = chance[np.argsort(-np.frexp(sizes[chance])[1], kind="stable")]
    totals = np.bincount(class_of)
    # A split that wants less than one sample of a class wants one.
    wanted = [np.maximum(totals * fraction, 1.0).tolist() for fraction in fractions]
    splits = np.empty(len(sizes), dtype=np.int64)
    for group, split in zip(order.tolist(), _choices([holds[group] for group in order.tolist()], wanted), strict=True):
        splits[group] = split
    return splits[group_of]


def _choices(groups: Sequence[list[tuple[int, int]]], wanted: Sequence[list[float]]) -> list[int]:
    """Return the split of each group, of which the classes and their samples are given, in this order.

    In Python's own numbers: with few classes in a group, numpy takes longer.
    """
    have = [[0] * len(counts) for counts in wanted]
    left = Counter(number for group in groups for number, _ in group)
    lacking = {number: set(range(len(wanted))) for number in left}
    chosen = []
    for group in groups:
        # A class of which so few groups are left that each split without it needs one.
        rare = [number for number, _ in group if left[number] <= len(lacking[number])]
        best, least = 0, (len(rare) + 1, 0.0)
        for split, (there, want) in enumerate(zip(have, wanted, strict=True)):
            misses = sum(split not in lacking[number] for number in rare)
            cost = misses, sum(count * ((count + 2 * there[number]) / want[number] - 2) for number, count in group)
            if cost < least:
                best, least = split, cost
        for number, count in group:
            have[best][number] += count
            left[number] -= 1
            lacking[number].discard(best)
        chosen.append(best)
    return chosen
