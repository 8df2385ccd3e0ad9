from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainyard.data.packed import Split, open_split, read_card, verify
from trainyard.errors import InputError
from trainyard.evaluation.results import sha256_of_test
from trainyard.studies.subset import chosen_rows, rows_of, subset


def labelled(*counts: int) -> Split:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Split("image_classification", "train", {"labels": labels, "images": labels[:, None]})


def test_a_share_has_the_classes_of_the_whole() -> None:
    train = labelled(600, 300, 100)
    labels = train.arrays["labels"][chosen_rows(train, 0.1, seed=0)]
    assert np.bincount(labels).tolist() == [60, 30, 10]


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    train = labelled(60, 30, 10)
    small, large, other = (set(chosen_rows(train, *asked).tolist()) for asked in ((0.1, 0), (0.3, 0), (0.1, 1)))
    assert small < large
    assert small != other
    assert chosen_rows(train, 1.0, 0).tolist() == list(range(100))


def test_a_share_without_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="holds none of 1 of the classes; ask for a larger share"):
        chosen_rows(labelled(95, 5), 0.04, seed=0)
    with pytest.raises(InputError, match="is none"):
        chosen_rows(labelled(5, 5), 0.01, seed=0)


def test_texts_keep_their_words_and_names() -> None:
    words = ["a", "some words", "", "and more of them"]
    encoded = [word.encode() for word in words]
    arrays = {
        "labels": np.array([0, 1, 0, 1]),
        "tokens": np.array([1, 2, 3, 4, 5, 6, 7]),
        "offsets": np.array([0, 1, 3, 3, 7]),
        "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "text_offsets": np.concatenate([[0], np.cumsum([len(word) for word in encoded])]),
    }
    found = Split("text_classification", "train", rows_of(Split("text_classification", "train", arrays), np.array([1, 2, 3])))
    assert [found.text(row) for row in range(3)] == words[1:]
    assert found.arrays["tokens"].tolist() == [2, 3, 4, 5, 6, 7]
    assert found.arrays["offsets"].tolist() == [0, 2, 2, 6]


def test_a_packed_share_is_whole_and_tests_the_same_samples(packed_digits: Path, tmp_path: Path) -> None:
    card = subset(packed_digits, tmp_path / "share", 0.1, seed=0)
    whole = read_card(packed_digits)
    assert read_card(tmp_path / "share") == card
    verify(tmp_path / "share", card)
    train, full = (open_split(folder, "train") for folder in (tmp_path / "share", packed_digits))
    assert len(train) == card.samples["train"] == round(len(full) / 10)
    assert sum(card.counts["train"].values()) == len(train)
    assert len(open_split(tmp_path / "share", "test")) == whole.samples["test"]
    assert sha256_of_test(card) == sha256_of_test(whole)
    assert card.sha256 != whole.sha256
    assert card.normalisation == whole.normalisation


def test_a_series_keeps_its_last_windows(packed_series: Path, tmp_path: Path) -> None:
    card = subset(packed_series, tmp_path / "share", 0.25, seed=0)
    train, full = (open_split(folder, "train") for folder in (tmp_path / "share", packed_series))
    assert len(train) == card.samples["train"] == round(len(full) / 4)
    np.testing.assert_array_equal(train.arrays["starts"], full.arrays["starts"][-len(train) :])
