from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from trainyard.data.splits import stratified_split
from trainyard.data.stratify import draw_samples
from trainyard.errors import InputError


@pytest.mark.parametrize("seed", range(40))
def test_samples_are_those_that_scikit_learn_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 12))
    strata = np.concatenate([np.arange(classes).repeat(2), rng.geometric(0.3, int(rng.integers(30, 400))) % classes])
    count = int(rng.integers(classes, len(strata) - classes))
    (expected,) = StratifiedShuffleSplit(1, test_size=count, random_state=seed).split(strata, strata)
    assert all(map(np.array_equal, draw_samples(strata, count, seed), expected))


def test_splits_of_samples_without_groups_do_not_change_from_one_version_to_the_next() -> None:
    parts = stratified_split(np.arange(1000) % 7, val_fraction=0.1, test_fraction=0.2, seed=3)
    text = " ".join(str(number) for part in parts for number in part)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "445810754be7df7b"


@pytest.mark.parametrize(("test", "said"), [(0.02, "2 would be drawn"), (0.95, "5 would be left")])
def test_a_split_with_less_than_one_sample_a_class_is_refused(test: float, said: str) -> None:
    with pytest.raises(InputError, match=f"split of 100 samples: {said}, which is less than one of each of 10 classes; add"):
        stratified_split(np.arange(100) % 10, val_fraction=0.0, test_fraction=test, seed=0)
