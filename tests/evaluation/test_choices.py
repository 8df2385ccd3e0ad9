from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainyard.data.packed import Split
from trainyard.evaluation.choices import THRESHOLDS, ThresholdSearch, choose, needs_validation
from trainyard.evaluation.config import EvaluateConfig

CONFIG = EvaluateConfig()


def scores(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, 2) and labels (N,) where the second class is rare, and given too little probability."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.2).astype(np.int64)
    second = np.clip(rng.normal(0.15 + 0.25 * labels, 0.1), 0.001, 0.999)
    return np.stack([1 - second, second], axis=1), labels


def test_the_threshold_is_the_one_that_scoring_each_finds_best() -> None:
    probabilities, labels = scores(800)
    search = ThresholdSearch()
    for part in np.array_split(np.arange(800), 3):
        search.add(probabilities[part], labels[part])
    values = [f1_score(labels, probabilities[:, 1] >= threshold, average="macro") for threshold in THRESHOLDS]
    best = search.best("text_classification")
    assert 0.2 < best < 0.4
    assert values[THRESHOLDS.tolist().index(best)] == pytest.approx(max(values))


def test_of_thresholds_that_are_equally_good_the_one_nearest_to_a_half_is_taken() -> None:
    search = ThresholdSearch()
    search.add(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert search.best("image_classification") == 0.5
    search.add(np.array([[0.35, 0.65]]), np.array([0]))
    assert search.best("image_classification") == 0.66


def test_all_is_chosen_in_one_pass_over_the_validation_split() -> None:
    probabilities, labels = scores(600)
    passes = []

    def batches() -> Iterator[np.ndarray]:
        passes.append(1)
        yield from np.array_split(probabilities, 4)

    val = Split("text_classification", "val", {"labels": labels})
    found = choose(batches(), val, replace(CONFIG, temperature="fit"), 2, None)
    assert found.threshold is not None and found.temperature is not None and found.rand is None
    assert found.threshold < 0.5
    assert passes == [1]


def test_the_validation_split_is_left_alone_where_nothing_is_chosen_on_it() -> None:
    assert not needs_validation(CONFIG, "image_classification", 10)
    assert needs_validation(replace(CONFIG, temperature="fit"), "image_classification", 10)
    assert needs_validation(CONFIG, "image_classification", 2)
    assert not needs_validation(replace(CONFIG, threshold="none"), "image_classification", 2)
    assert needs_validation(CONFIG, "forecasting", 1)
    assert not needs_validation(replace(CONFIG, interval=None), "forecasting", 1)
