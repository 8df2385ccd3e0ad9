import numpy as np
import pytest
from threadpoolctl import threadpool_info

from trainyard.data.packed import Split
from trainyard.evaluation import baseline
from trainyard.evaluation.baseline import feature_strips, local_features, run_baseline
from trainyard.evaluation.metrics import scores, total


def test_image_baseline_learns_brightness(image_split: Split) -> None:
    found = run_baseline(image_split, image_split, 3, seed=0)
    assert found.description == "logistic regression on pixels"
    assert scores("image_classification", total(found.predictions.counts))["accuracy"] == 1


def test_text_baseline_learns_from_words(text_split: Split) -> None:
    found = run_baseline(text_split, text_split, 2, seed=0)
    assert "TF-IDF" in found.description
    assert scores("text_classification", total(found.predictions.counts))["macro_f1"] == 1


def test_mask_baseline_finds_bright_and_dark_squares(mask_split: Split) -> None:
    found = run_baseline(mask_split, mask_split, 3, seed=0)
    assert found.description.startswith("random forest of 20 trees")
    assert found.predictions.classes.shape == mask_split.arrays["masks"].shape
    assert scores("segmentation", total(found.predictions.counts))["mean_iou"] > 0.8


@pytest.mark.parametrize("name", ["image_split", "mask_split", "text_split"])
def test_baseline_is_a_function_of_the_seed(name: str, request: pytest.FixtureRequest) -> None:
    split: Split = request.getfixturevalue(name)
    first, again = (run_baseline(split, split, 3, seed=4).predictions for _ in range(2))
    np.testing.assert_array_equal(first.confidence, again.confidence)


def test_large_data_are_sampled_and_the_description_says_so(image_split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "IMAGE_VALUES", 36 * 25)
    assert "trained on 25 of 40 images" in run_baseline(image_split, image_split, 3, seed=0).description


def test_class_that_training_lacks_is_never_predicted(image_split: Split) -> None:
    arrays = image_split.arrays
    known = arrays["labels"] != 1
    train = Split("image_classification", "train", {name: array[known] for name, array in arrays.items()})
    found = run_baseline(train, image_split, 3, seed=0)
    assert not np.any(found.predictions.classes == 1)


def test_local_features_keep_pixel_order_and_are_finite() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7)).astype(np.uint8)
    features = local_features(image)
    assert features.shape == (35, 2 * 17)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[:, 0], image[0].ravel() / 255, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 10, 40, 150])
def test_features_of_a_large_image_are_found_some_rows_at_a_time_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(baseline, "STRIP_PIXELS", 30 * rows + 7)
    image = np.random.default_rng(0).integers(0, 256, (2, 130, 30), dtype=np.uint8)
    strips = [*feature_strips(image)]
    assert max(map(len, strips)) <= 30 * rows
    assert np.array_equal(np.concatenate(strips), local_features(image))


def test_a_mask_baseline_is_the_same_whatever_it_holds_at_once(mask_split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_baseline(mask_split, mask_split, 3, seed=0).predictions.classes
    monkeypatch.setattr(baseline, "STRIP_PIXELS", 100)
    assert np.array_equal(run_baseline(mask_split, mask_split, 3, seed=0).predictions.classes, expected)


def test_thread_limits_are_given_back(image_split: Split) -> None:
    before = [pool["num_threads"] for pool in threadpool_info()]
    run_baseline(image_split, image_split, 3, seed=0)
    assert [pool["num_threads"] for pool in threadpool_info()][: len(before)] == before
