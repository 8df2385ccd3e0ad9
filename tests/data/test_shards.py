from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainyard.data import packed
from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import open_split, read_card, verify, write_arrays
from trainyard.data.prepare import prepare
from trainyard.data.shards import Shards
from trainyard.errors import IntegrityError

ROW = 8 * 8


@pytest.fixture
def whole() -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(-9, 9, (10, 2, 3), dtype=np.int32)


@pytest.fixture
def shards(whole: NDArray[np.int32]) -> Shards:
    return Shards([whole[:4], whole[4:5], whole[5:]])


@pytest.mark.parametrize(
    "key",
    [
        0,
        4,
        -1,
        slice(None),
        slice(3, 6),
        slice(8, 1, -3),
        slice(20, 30),
        [7, 0, 4, 4],
        np.array([[9, 3], [4, -10]]),
        np.array([], dtype=np.int64),
        np.arange(10) % 3 == 0,
    ],
    ids=str,
)
def test_shards_are_read_as_the_one_array_that_they_are(shards: Shards, whole: NDArray[np.int32], key: object) -> None:
    found = shards[key]  # type: ignore[index]
    assert found.dtype == whole.dtype
    assert np.array_equal(found, whole[key])  # type: ignore[index]


def test_shards_have_the_form_of_the_one_array(shards: Shards, whole: NDArray[np.int32]) -> None:
    assert (len(shards), shards.shape, shards.size, shards.dtype) == (10, (10, 2, 3), 60, whole.dtype)
    assert np.array_equal(np.asarray(shards), whole)
    assert np.asarray(shards, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("key", [10, -11, [0, 10], np.ones(9, dtype=bool)], ids=str)
def test_a_row_that_is_not_there_is_refused(shards: Shards, key: object) -> None:
    with pytest.raises(IndexError):
        shards[key]  # type: ignore[index]


@pytest.mark.parametrize(("rows", "files"), [(1, 1), (64, 1), (65, 2), (128, 2), (129, 3), (0, 1)])
def test_an_array_is_cut_where_a_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, files: int) -> None:
    monkeypatch.setattr(packed, "SHARD_BYTES", 64 * ROW)
    images = np.random.default_rng(0).integers(0, 256, (rows, 8, 8), dtype=np.uint8)
    described = write_arrays(tmp_path, "train", {"images": images})["images"]
    assert len(described["files"]) == files
    assert [path.name for path in sorted((tmp_path / "train").iterdir())] == list(described["files"])
    parts = [np.load(tmp_path / "train" / file) for file in described["files"]]
    assert np.array_equal(np.concatenate(parts), images)


def test_a_set_in_shards_holds_what_one_in_whole_files_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DigitsConfig(source="digits")
    prepare("whole", config, tmp_path / "whole")
    monkeypatch.setattr(packed, "SHARD_BYTES", 100 * ROW)
    prepare("cut", config, tmp_path / "cut")
    card = read_card(tmp_path / "cut")
    assert len(card.arrays["train"]["images"]["files"]) > 10
    verify(tmp_path / "cut", card)
    whole, cut = (open_split(tmp_path / name, "train") for name in ("whole", "cut"))
    assert np.array_equal(cut.arrays["images"], whole.arrays["images"])
    some = np.random.default_rng(0).permutation(len(whole))[:200]
    assert np.array_equal(cut.arrays["images"][some], whole.arrays["images"][some])
    assert cut.sample_name(123) == whole.sample_name(123)


def test_a_damaged_or_missing_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SHARD_BYTES", 500 * ROW)
    prepare("cut", DigitsConfig(source="digits"), tmp_path / "cut")
    shard = tmp_path / "cut" / "train" / "images-00001.npy"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"images-00001\.npy: is not what the card was written for"):
        verify(tmp_path / "cut", read_card(tmp_path / "cut"))
    shard.unlink()
    with pytest.raises(IntegrityError, match=r"images-00001\.npy: cannot be read"):
        open_split(tmp_path / "cut", "train")
