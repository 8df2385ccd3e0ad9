from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from trainyard.data.duplicates import drop_duplicates
from trainyard.data.packed import SPLITS
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.splits import ordered_split, split_dataset
from trainyard.errors import InputError


def numbered(count: int, split: list[int] | None = None, labels: list[int] | None = None) -> RawDataset:
    """Images whose four pixels are their number, in two classes by turns."""
    pixels = np.arange(count, dtype=np.uint8)
    return RawDataset(
        kind="image_classification",
        classes=("even", "odd"),
        arrays={
            "images": np.repeat(pixels, 4).reshape(count, 1, 2, 2),
            "labels": np.array(labels) if labels else np.arange(count) % 2,
        },
        about="",
        names=tuple(f"{number}.png" for number in range(count)),
        split=None if split is None else np.array(split),
    )


def sizes(raw: RawDataset) -> dict[str, int]:
    parts = split_dataset(raw, val_fraction=0.25, test_fraction=0.25, seed=0).indices
    return {name: len(parts[name]) for name in SPLITS}


def test_splits_of_the_source_are_kept() -> None:
    raw = numbered(40, [0] * 20 + [1] * 10 + [2] * 10)
    parts = split_dataset(raw, val_fraction=0.25, test_fraction=0.25, seed=0).indices
    assert [part.tolist() for part in parts.values()] == [list(range(20)), list(range(20, 30)), list(range(30, 40))]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ([TO_DIVIDE] * 40 + [2] * 10, {"train": 30, "val": 10, "test": 10}),
        ([TO_DIVIDE] * 40 + [1] * 10, {"train": 30, "val": 10, "test": 10}),
        ([TO_DIVIDE] * 40, {"train": 20, "val": 10, "test": 10}),
    ],
)
def test_what_the_source_leaves_is_divided_among_training_and_the_splits_it_lacks(
    split: list[int], expected: dict[str, int]
) -> None:
    raw = numbered(len(split), split)
    assert sizes(raw) == expected
    parts = split_dataset(raw, val_fraction=0.25, test_fraction=0.25, seed=0).indices
    for number, name in enumerate(SPLITS):
        assert set(np.flatnonzero(np.array(split) == number)) <= set(parts[name])


def test_of_equal_samples_in_two_splits_the_tested_one_stays_and_both_are_named() -> None:
    raw = numbered(40, [0] * 20 + [1] * 10 + [2] * 10)
    raw.arrays["images"][3] = raw.arrays["images"][35]
    splits = split_dataset(raw, val_fraction=0.25, test_fraction=0.25, seed=0)
    assert 3 not in splits.indices["train"]
    assert 35 in splits.indices["test"]
    assert splits.duplicates_dropped == 1
    told = next(warning for warning in splits.warnings if warning.rule == "equal-in-two-splits")
    assert told.found == "1 pair: 3.png (train) = 35.png (test)"


def test_equal_samples_with_two_labels_are_named() -> None:
    raw = numbered(40)
    raw.arrays["images"][7] = raw.arrays["images"][4]
    warnings = split_dataset(raw, val_fraction=0.25, test_fraction=0.25, seed=0).warnings
    assert [(told.rule, told.found) for told in warnings] == [("equal-with-two-labels", "1 pair: 7.png (odd) = 4.png (even)")]


def test_clean_data_give_no_warning() -> None:
    assert split_dataset(numbered(40), val_fraction=0.25, test_fraction=0.25, seed=0).warnings == ()


def test_a_class_that_is_too_small_for_the_splits_to_be_made_is_named() -> None:
    raw = numbered(50, [TO_DIVIDE] * 40 + [2] * 10, [0] * 39 + [1] + [0, 1] * 5)
    with pytest.raises(InputError, match="class 'odd': has 1 samples; it needs at least 2, one for each of train and val"):
        split_dataset(raw, val_fraction=0.2, test_fraction=0.2, seed=0)


def masked(strata: list[int], groups: list[int] | None = None) -> RawDataset:
    """Images with masks, each of which shows most of one class, and of others."""
    count = len(strata)
    images = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 1, 2)
    return RawDataset(
        kind="segmentation",
        classes=tuple(f"class {number}" for number in range(max(strata) + 1)),
        arrays={"images": images, "masks": np.zeros((count, 1, 2), dtype=np.uint8)},
        about="",
        names=tuple(f"{number}.png" for number in range(count)),
        strata=np.array(strata),
        groups=None if groups is None else np.array(groups),
    )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    "strata",
    [[0] * 40 + [1] * 40 + [2], [0] * 40 + [1] * 40 + [2, 3, 4, 5] * 3, [number % 20 for number in range(80)]],
    ids=["one", "some", "all"],
)
def test_masks_of_which_few_show_most_of_a_class_are_divided_all_the_same(strata: list[int], grouped: bool) -> None:
    raw = masked(strata, [number // 2 for number in range(len(strata))] if grouped else None)
    parts = split_dataset(raw, val_fraction=0.1, test_fraction=0.2, seed=0).indices
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(len(strata)))
    assert abs(len(parts["test"]) - 0.2 * len(strata)) <= 4
    for number in (0, 1):
        if strata.count(number) == 40:
            assert abs(np.count_nonzero(np.array(strata)[parts["test"]] == number) - 8) <= 2


def test_two_masks_are_too_few_for_three_splits() -> None:
    with pytest.raises(InputError, match="split of 2 samples: each of train, val and test needs one; add samples"):
        split_dataset(masked([1, 2]), val_fraction=0.1, test_fraction=0.2, seed=0)


def test_in_order_the_last_samples_are_tested_and_those_before_them_validated() -> None:
    names = [f"image/{number}.png" for number in sorted(range(20), key=str)]
    split = ordered_split(names, val_fraction=0.1, test_fraction=0.2)
    by_name = {int(name[6:-4]): int(number) for name, number in zip(names, split, strict=True)}
    assert [by_name[number] for number in range(20)] == [0] * 14 + [1] * 2 + [2] * 4


def test_in_order_every_split_has_a_sample_or_the_data_are_refused() -> None:
    assert ordered_split(["a1", "a2", "b"], val_fraction=0.01, test_fraction=0.01).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="split of 3 samples in order: none is left to train on"):
        ordered_split(["a1", "a2", "b"], val_fraction=0.3, test_fraction=0.6)


def test_equal_samples_are_looked_for_in_little_memory() -> None:
    texts = [f"text {number % 49_000}" for number in range(50_000)]
    raw = RawDataset(
        kind="text_classification",
        classes=("a",),
        arrays={"texts": texts, "labels": np.zeros(len(texts), dtype=np.int64)},
        about="",
    )
    tracemalloc.start()
    try:
        kept, _ = drop_duplicates(raw)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.tolist() == list(range(49_000))
    assert most < 400 * len(texts)
