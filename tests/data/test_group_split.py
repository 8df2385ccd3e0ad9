from __future__ import annotations

import time

import numpy as np
import pytest

from trainyard.data.group_split import divide_groups
from trainyard.data.splits import stratified_split
from trainyard.errors import InputError

FRACTIONS = (0.7, 0.1, 0.2)


def patients(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and groups of samples: a few groups are large, and most samples of a group are of one class."""
    rng = np.random.default_rng(seed)
    sizes = (rng.pareto(1.5, count) * 3 + 1).astype(int).clip(1, 60)
    groups = np.repeat(np.arange(count), sizes)
    usual = np.repeat(rng.integers(0, classes, count), sizes)
    strata = np.where(rng.random(len(groups)) < 0.7, usual, rng.integers(0, classes, len(groups)))
    mixed = rng.permutation(len(groups))
    return strata[mixed], groups[mixed]


def cut(strata: np.ndarray, groups: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    return stratified_split(strata, groups, val_fraction=0.1, test_fraction=0.2, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_every_split_gets_its_share_of_every_class(seed: int) -> None:
    strata, groups = patients(400, 5, seed)
    parts = cut(strata, groups, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(strata)))
    assert sum(len(np.unique(groups[part])) for part in parts) == 400
    for part, fraction in zip(parts, FRACTIONS, strict=True):
        shares = np.bincount(strata[part]) / np.bincount(strata)
        assert np.abs(shares - fraction).max() < 0.02


def test_every_split_gets_large_groups_and_small_ones() -> None:
    strata, groups = patients(1000, 2, 0)
    sizes = np.bincount(groups)
    means = [sizes[np.unique(groups[part])].mean() for part in cut(strata, groups)]
    assert max(means) < 1.5 * min(means)


def test_the_same_seed_gives_the_same_splits_and_another_does_not() -> None:
    strata, groups = patients(100, 3, 0)
    first, again, other = (divide_groups(strata, groups, FRACTIONS, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_names_of_groups_and_classes_do_not_matter() -> None:
    strata, groups = patients(100, 3, 0)
    assert np.array_equal(divide_groups(strata, groups, FRACTIONS, 0), divide_groups(strata * 7 + 2, groups * 3, FRACTIONS, 0))


@pytest.mark.parametrize("seed", range(5))
def test_a_class_in_three_groups_is_in_every_split(seed: int) -> None:
    strata, groups = patients(60, 2, seed)
    for group in (5, 17, 40):
        strata[np.flatnonzero(groups == group)] = 2
    assert all(2 in strata[part] for part in cut(strata, groups, seed))


def test_a_group_that_a_small_split_has_no_room_for_is_trained_on() -> None:
    groups = np.array([0] * 70 + list(range(1, 31)))
    train, _, _ = cut(np.zeros(100, dtype=np.int64), groups)
    assert set(groups[train]) == {0}


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.2, 0.0)])
def test_a_split_that_is_not_wanted_stays_empty(val: float, test: float) -> None:
    strata, groups = patients(50, 2, 0)
    parts = stratified_split(strata, groups, val_fraction=val, test_fraction=test, seed=0)
    assert [bool(len(part)) for part in parts] == [True, val > 0, test > 0]


def test_fewer_groups_than_splits_are_refused() -> None:
    with pytest.raises(InputError, match=r"they stand in 2 group\(s\) that must not be cut; at least 3 groups are needed"):
        cut(np.arange(20) % 2, np.arange(20) // 10)


def test_a_class_in_fewer_groups_than_splits_is_named() -> None:
    strata = np.array([0] * 50 + [1] * 10)
    with pytest.raises(InputError, match="class 1: has 10 samples in 2 groups, of which none went to"):
        cut(strata, np.concatenate([np.arange(50), np.arange(10) // 5 + 50]))


def test_many_groups_are_divided_in_a_moment() -> None:
    strata, groups = patients(20_000, 10, 0)
    began = time.process_time()
    divide_groups(strata, groups, FRACTIONS, 0)
    assert time.process_time() - began < 2
