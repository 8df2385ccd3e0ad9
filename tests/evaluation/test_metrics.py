import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

from trainyard.evaluation.metrics import (
    SampleCounts,
    bootstrap,
    by_class,
    confusions,
    estimate,
    label_counts,
    mask_counts,
    scores,
    total,
)


def random_labels(samples: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = rng.integers(classes, size=samples)
    return labels, np.where(rng.random(samples) < 0.7, labels, rng.integers(classes, size=samples))


def random_masks() -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = random_labels(30 * 8 * 8)
    return labels.reshape(30, 8, 8), predicted.reshape(30, 8, 8)


def test_label_metrics_agree_with_a_calculation_by_hand() -> None:
    counts = label_counts(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 2, np.array([0.1, 0.2, 0.9, 0.3, 1.0]))
    found = scores("image_classification", total(counts))
    assert found["accuracy"] == pytest.approx(3 / 5)
    # Class 0: precision 2/3, recall 2/3. Class 1: precision 1/2, recall 1/2.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["loss"] == pytest.approx(0.5)


def test_mask_metrics_agree_with_a_calculation_by_hand() -> None:
    truth = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]])
    predicted = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]]])
    found = scores("segmentation", total(mask_counts(confusions(truth, predicted, 3))))
    # Class 0: 4 of 6 true pixels, none too many. Class 1: 2 right, 2 too many. Class 2 does not occur.
    assert found["mean_iou"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert found["dice"] == pytest.approx((8 / 10 + 4 / 6) / 2)
    assert found["pixel_accuracy"] == pytest.approx(6 / 8)


def test_label_metrics_agree_with_scikit_learn_and_torchmetrics() -> None:
    labels, predicted = random_labels()
    found = scores("text_classification", total(label_counts(labels, predicted, 6)))
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    theirs = multiclass_f1_score(torch.from_numpy(predicted), torch.from_numpy(labels), 6, average="macro")
    assert found["macro_f1"] == pytest.approx(theirs.item(), abs=1e-6)


def test_mask_metrics_agree_with_scikit_learn_and_torchmetrics() -> None:
    truth, predicted = random_masks()
    found = scores("segmentation", total(mask_counts(confusions(truth, predicted, 5))))
    assert found["mean_iou"] == pytest.approx(jaccard_score(truth.ravel(), predicted.ravel(), average="macro"))
    assert found["dice"] == pytest.approx(f1_score(truth.ravel(), predicted.ravel(), average="macro"))
    theirs = multiclass_jaccard_index(torch.from_numpy(predicted), torch.from_numpy(truth), 5)
    assert found["mean_iou"] == pytest.approx(theirs.item(), abs=1e-6)


def test_metrics_by_class_agree_with_scikit_learn() -> None:
    labels, predicted = random_labels()
    found = by_class("image_classification", total(label_counts(labels, predicted, 5)))
    theirs = precision_recall_fscore_support(labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        np.testing.assert_allclose(found[name], values)


def test_class_that_does_not_occur_has_no_score() -> None:
    empty = np.zeros((1, 2, 2), dtype=int)
    found = by_class("segmentation", total(mask_counts(confusions(empty, empty, 2))))
    assert found["iou"][0] == 1
    assert np.isnan(found["iou"][1])


def test_bootstrap_resamples_whole_samples() -> None:
    # Two kinds of images, all right and all wrong: a resample's accuracy is a multiple of one image's share.
    truth = np.zeros((10, 4, 4), dtype=int)
    predicted = truth.copy()
    predicted[5:] = 1
    found = bootstrap("segmentation", mask_counts(confusions(truth, predicted, 2)), 200, seed=0)
    np.testing.assert_allclose(found["pixel_accuracy"] * 10, np.rint(found["pixel_accuracy"] * 10), atol=1e-9)


def test_bootstrap_agrees_with_scoring_each_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = random_labels(50)
    losses = np.random.default_rng(2).random(50)
    # Few enough draws at a time that the resamples take several rounds.
    monkeypatch.setattr("trainyard.evaluation.metrics.CHUNK_ENTRIES", 50 * 3)
    found = bootstrap("text_classification", label_counts(labels, predicted, 5, losses), 8, seed=3)
    rng = np.random.Generator(np.random.Philox(key=[3, 50]))
    draws = np.concatenate([rng.integers(50, size=(size, 50)) for size in (3, 3, 2)])
    for index, draw in enumerate(draws):
        assert found["macro_f1"][index] == pytest.approx(f1_score(labels[draw], predicted[draw], average="macro"))
        assert found["accuracy"][index] == pytest.approx(np.mean(labels[draw] == predicted[draw]))
        assert found["loss"][index] == pytest.approx(losses[draw].mean())


def test_interval_of_accuracy_is_that_of_a_binomial() -> None:
    labels = np.zeros(400, dtype=int)
    predicted = (np.arange(400) % 5 == 0).astype(int)
    found = bootstrap("image_classification", label_counts(labels, predicted, 2), 2000, seed=0)
    interval = estimate(0.8, found["accuracy"])
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert interval.low == pytest.approx(0.8 - half, abs=0.006)
    assert interval.high == pytest.approx(0.8 + half, abs=0.006)


def test_bootstrap_is_a_function_of_the_seed() -> None:
    counts = label_counts(*random_labels(), 5)
    first, again, other = (bootstrap("image_classification", counts, 20, seed)["accuracy"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_equal_models_differ_by_nothing_on_every_resample() -> None:
    labels, predicted = random_labels()
    found = [bootstrap("image_classification", label_counts(labels, predicted, k), 50, 0)["accuracy"] for k in (5, 9)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


def test_thousand_resamples_of_ten_thousand_samples_take_less_than_two_seconds() -> None:
    labels, predicted = random_labels(10_000, 10)
    counts = label_counts(labels, predicted, 10, np.ones(10_000))
    began = time.process_time()
    bootstrap("image_classification", counts, 1000, seed=0)
    assert time.process_time() - began < 2


def test_one_sample_has_an_interval_of_no_width() -> None:
    counts = SampleCounts(overlap=np.eye(2)[[0]], truth=np.eye(2)[[0]], predicted=np.eye(2)[[0]])
    found = bootstrap("image_classification", counts, 10, seed=0)
    assert estimate(1.0, found["accuracy"]) == estimate(1.0, np.ones(10))


def test_pixel_error_of_two_classes_is_the_share_of_wrong_pixels() -> None:
    truth, predicted = np.array([[[0, 0], [1, 1]]]), np.array([[[0, 1], [1, 1]]])
    assert scores("segmentation", total(mask_counts(confusions(truth, predicted, 2))))["pixel_error"] == pytest.approx(1 / 4)
    assert "pixel_error" not in scores("segmentation", total(mask_counts(confusions(truth, predicted, 3))))


def test_rand_errors_are_averaged_over_images_and_resampled_with_them() -> None:
    matrices = confusions(*(np.zeros((2, 3, 4, 4), dtype=np.int64)), 2)
    counts = replace(mask_counts(matrices, np.array([1.0, 2.0, 3.0])), rand_errors=np.array([0.1, 0.2, 0.6]))
    assert scores("segmentation", total(counts))["rand_error"] == pytest.approx(0.3)
    resampled = bootstrap("segmentation", counts, 200, seed=0)
    possible = {round(sum(drawn) / 3, 6) for drawn in itertools.product((0.1, 0.2, 0.6), repeat=3)}
    assert set(resampled["rand_error"].round(6)) == possible
    # Each resample draws the same images for all metrics.
    assert np.array_equal(resampled["loss"] == 1, np.isclose(resampled["rand_error"], 0.1))
    assert "rand_error" not in scores("segmentation", total(mask_counts(matrices)))
