from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import SPLITS, file_sha256, open_split, read_card, verify, write_arrays
from trainyard.data.prepare import prepare
from trainyard.data.raw import RawDataset
from trainyard.data.splits import split_dataset, stratified_split
from trainyard.errors import InputError, IntegrityError

CONFIG = DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2)


def test_the_same_seed_gives_the_same_data_and_another_does_not(packed_digits: Path, tmp_path: Path) -> None:
    again = prepare("x", CONFIG, tmp_path / "a")
    other = prepare("x", DigitsConfig(source="digits", seed=1, val_fraction=0.15, test_fraction=0.2), tmp_path / "b")
    assert again.sha256 == read_card(packed_digits).sha256
    assert other.sha256 != again.sha256


def test_splits_share_no_sample_and_hold_all_classes_alike(packed_digits: Path) -> None:
    card = read_card(packed_digits)
    seen = [{image.tobytes() for image in open_split(packed_digits, name).arrays["images"]} for name in SPLITS]
    assert [len(part) for part in seen] == list(card.samples.values())
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for counts in card.counts.values():
        assert max(counts.values()) - min(counts.values()) <= 0.1 * sum(counts.values()) / 10 + 3


def test_the_normalisation_is_that_of_the_training_pixels(packed_digits: Path) -> None:
    pixels = open_split(packed_digits, "train").arrays["images"] / 255
    card = read_card(packed_digits)
    assert card.normalisation["mean"] == [pytest.approx(pixels.mean())]
    assert card.normalisation["std"] == [pytest.approx(pixels.std())]


def test_arrays_are_memory_mapped(packed_digits: Path) -> None:
    assert isinstance(open_split(packed_digits, "train").arrays["images"].base, np.memmap)


def test_duplicates_are_dropped_before_the_split() -> None:
    images = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1).repeat(2, axis=0)
    raw = RawDataset(
        kind="image_classification",
        classes=("a", "b"),
        arrays={"images": images, "labels": np.arange(60) // 2 % 2},
        about="",
    )
    splits = split_dataset(raw, val_fraction=0.2, test_fraction=0.2, seed=0)
    assert splits.duplicates_dropped == 30
    assert sorted(np.concatenate(list(splits.indices.values()))) == list(range(0, 60, 2))


def test_groups_stay_together() -> None:
    strata, groups = np.arange(300) % 3, np.arange(300) // 6
    parts = stratified_split(strata, groups, val_fraction=0.2, test_fraction=0.2, seed=0)
    found = [set(groups[part]) for part in parts]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert sum(map(len, parts)) == 300


def test_a_class_with_too_few_samples_is_named() -> None:
    with pytest.raises(InputError, match="class 'rare': has 2 samples; it needs at least 3"):
        stratified_split(np.array([0] * 50 + [1] * 2), val_fraction=0.2, test_fraction=0.2, seed=0, classes=("common", "rare"))


@pytest.mark.parametrize("damage", ["bit", "cut", "pickle", "gone", "dtype"])
def test_a_damaged_array_is_refused(digits_copy: Path, damage: str) -> None:
    path = digits_copy / "train" / "images.npy"
    card = read_card(digits_copy)
    if damage == "bit":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.load(path).astype(np.int16))
    with pytest.raises(IntegrityError, match=r"images.npy: .*prepare it again"):
        verify(digits_copy, card)
    if damage != "bit":
        with pytest.raises(IntegrityError, match=r"images.npy: .*prepare it again"):
            open_split(digits_copy, "train", card)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"name": "x"}'])
def test_a_card_that_is_none_is_refused(digits_copy: Path, content: str) -> None:
    (digits_copy / "card.json").write_text(content)
    with pytest.raises(IntegrityError, match="is not a data card"):
        read_card(digits_copy)


@pytest.mark.faults
def test_a_write_that_fails_is_named_with_its_place_and_leaves_nothing(
    tmp_path: Path, out_of_space: Callable[[str], str]
) -> None:
    said = out_of_space(
        "import pathlib; from trainyard.data.prepare import prepare; from trainyard.data.digits import DigitsConfig;"
        "prepare('x', DigitsConfig(source='digits'), pathlib.Path('out'))"
    )
    assert "MachineError: out: cannot be written (File too large" in said
    assert list(tmp_path.iterdir()) == []


def test_memory_mapped_arrays_pack_as_those_in_memory_do_a_few_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 7), dtype=np.uint8)
    np.save(tmp_path / "mapped.npy", images)
    rows = np.array([3, 4, 10, 49])
    expected = write_arrays(tmp_path / "a", "train", {"images": images[rows]})
    monkeypatch.setattr("trainyard.data.packed.CHUNK_BYTES", 250)
    mapped = np.load(tmp_path / "mapped.npy", mmap_mode="r")
    assert write_arrays(tmp_path / "b", "train", {"images": mapped}, rows) == expected
    assert np.array_equal(np.load(tmp_path / "b" / "train" / "images.npy"), images[rows])
    assert file_sha256(tmp_path / "b" / "train" / "images.npy") == expected["images"]["files"]["images.npy"]


def test_series_are_packed_with_a_card_and_a_page(packed_series: Path) -> None:
    card = read_card(packed_series)
    verify(packed_series, card)
    assert card.kind == "forecasting"
    assert card.columns == card.classes == ("load", "heat")
    assert card.input == {"num_features": 2, "context_length": 24, "horizon": 12}
    assert {name: len(open_split(packed_series, name)) for name in SPLITS} == card.samples
    assert (packed_series / "card.html").read_text().count("<polyline") == 2
