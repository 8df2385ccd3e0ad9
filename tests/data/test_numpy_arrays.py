from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from trainyard.data import numpy_arrays
from trainyard.data.numpy_arrays import NumpyArraysConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.splits import split_dataset
from trainyard.errors import InputError

RANDOM = np.random.default_rng(0)
CLASSES = ("background", "cell", "wall")


def save(folder: Path, **arrays: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=array.dtype == object)


def images(count: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, *shape), dtype=np.uint8)


def read(folder: Path) -> RawDataset:
    return load(NumpyArraysConfig(source="numpy_arrays", path=folder.name, classes=CLASSES), folder.parent, folder)


@pytest.mark.parametrize(("shape", "expected"), [((8, 9), (1, 8, 9)), ((3, 8, 9), (3, 8, 9)), ((8, 9, 3), (3, 8, 9))])
def test_images_come_channels_first_with_every_pixel_in_place(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    pixels = images(6, *shape)
    save(tmp_path / "raw", images=pixels, labels=np.arange(6) % 3)
    raw = read(tmp_path / "raw")
    assert raw.kind == "image_classification"
    assert raw.arrays["images"].shape == (6, *expected)
    first = pixels[..., 0] if shape[-1] == 3 else pixels.reshape(6, -1, 8, 9)[:, 0]
    assert np.array_equal(raw.arrays["images"][:, 0], first)
    assert raw.split is not None and set(raw.split) == {TO_DIVIDE}


def test_masks_make_a_segmentation_with_the_main_class_as_stratum(tmp_path: Path) -> None:
    masks = np.zeros((3, 8, 9), dtype=np.int32)
    masks[1, :5], masks[2, :2], masks[2, 2:] = 1, 1, 2
    save(tmp_path / "raw", images=images(3, 8, 9), masks=masks)
    raw = read(tmp_path / "raw")
    assert raw.kind == "segmentation"
    assert raw.arrays["masks"].dtype == np.uint8
    assert raw.strata is not None and raw.strata.tolist() == [0, 1, 2]


def test_folders_of_splits_are_kept_and_a_missing_one_is_made_of_training(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("test", 4)):
        save(tmp_path / "raw" / name, images=images(count, 8, 9), labels=np.arange(count) % 3)
    raw = read(tmp_path / "raw")
    assert raw.split is not None and raw.split.tolist() == [TO_DIVIDE] * 5 + [2] * 4


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": images(3, 8, 9)}, "images; images.npy beside labels.npy or masks.npy"),
        ({"images": images(3, 8, 9).astype(float), "labels": np.arange(3)}, r"images of float64 with shape \(3, 8, 9\); uint8"),
        ({"images": images(3, 5, 8, 9), "labels": np.arange(3)}, "1 or 3 channels"),
        (
            {"images": images(3, 8, 9), "labels": np.arange(4)},
            r"shape \(4,\); whole numbers with shape \(3,\)",
        ),
        ({"images": images(3, 8, 9), "labels": np.array([0, 1, 3])}, r"1 samples \(2, ...\) with the values \[3\]; 0 to 2"),
        ({"images": images(3, 8, 9), "masks": np.zeros((3, 8, 8), int)}, r"whole numbers with shape \(3, 8, 9\)"),
        ({"images": images(3, 8, 9), "masks": np.full((3, 8, 9), 255)}, r"with the values \[255\]"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    save(tmp_path / "raw", **arrays)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "raw")
    assert caught.value.exit_code == 2


def test_an_array_of_objects_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    save(tmp_path / "raw", images=images(1, 8, 9), labels=np.array([Attack()], dtype=object))
    with pytest.raises(DataError, match=r"labels\.npy: an array of Python objects, which could run code") as caught:
        read(tmp_path / "raw")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "ran").exists()


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "raw", images=images(50, 8, 9), labels=np.zeros(50, int))
    path = tmp_path / "raw" / "images.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"images\.npy: no whole \.npy file"):
        read(tmp_path / "raw")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": images(6, 64)}, r"images of uint8 with shape \(6, 64\); uint8 with shape"),
        ({"images": np.uint8(3)}, r"images of uint8 with shape \(\); uint8 with shape"),
        ({"images": images(0, 8, 9), "labels": np.zeros(0, int)}, r"images with shape \(0, 8, 9\); one image or more"),
        ({"images": images(6, 0, 9)}, r"images with shape \(6, 0, 9\); one image or more, of some pixels"),
        ({"groups": np.int64(3)}, r"groups of int64 with shape \(\); whole numbers or texts with shape \(6,\)"),
    ],
)
def test_arrays_of_no_shape_that_images_have_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    save(tmp_path / "raw", **{"images": images(6, 8, 9), "labels": np.arange(6) % 3, **arrays})
    with pytest.raises(DataError, match=message):
        read(tmp_path / "raw")


def test_splits_with_images_of_different_shapes_are_named_with_them(tmp_path: Path) -> None:
    save(tmp_path / "raw" / "train", images=images(6, 8, 9), labels=np.arange(6) % 3)
    save(tmp_path / "raw" / "test", images=images(3, 8, 7), labels=np.arange(3))
    with pytest.raises(DataError, match=r"images with \(C, H, W\) of \(1, 8, 9\) and \(1, 8, 7\); one shape in all splits"):
        read(tmp_path / "raw")


def test_masks_of_more_classes_than_they_can_hold_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "raw", images=images(3, 8, 9), masks=np.full((3, 8, 9), 256))
    classes = tuple(f"class {number}" for number in range(300))
    with pytest.raises(DataError, match=r"masks of 300 classes; 256 at most"):
        load(NumpyArraysConfig(source="numpy_arrays", path="raw", classes=classes), tmp_path, tmp_path)


def test_a_class_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="classes: 'cell' is named twice"):
        NumpyArraysConfig(source="numpy_arrays", path="raw", classes=("cell", "wall", "cell"))


def test_arrays_of_several_splits_are_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_arrays, "ROWS_BYTES", 2**18)
    for name in ("train", "test"):
        masks = RANDOM.integers(0, 3, (200, 64, 64), dtype=np.int64)
        save(tmp_path / "raw" / name, images=images(200, 3, 64, 64), masks=masks)
    tracemalloc.start()
    raw = load(NumpyArraysConfig(source="numpy_arrays", path="raw", classes=CLASSES), tmp_path, tmp_path / "scratch")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**21
    for kind in ("images", "masks"):
        whole = np.concatenate([np.load(tmp_path / "raw" / name / f"{kind}.npy") for name in ("train", "test")])
        assert np.array_equal(np.asarray(raw.arrays[kind]), whole)


def test_a_class_that_is_tested_and_never_trained_on_is_refused(tmp_path: Path) -> None:
    for name, labels in (("train", [0, 1] * 8), ("val", [0, 1]), ("test", [0, 1, 2])):
        save(tmp_path / "raw" / name, images=images(len(labels), 8, 9), labels=np.array(labels))
    with pytest.raises(InputError, match=r"class 'wall': has samples in test and none in train, .*; add some to train"):
        split_dataset(read(tmp_path / "raw"), val_fraction=0.1, test_fraction=0.1, seed=0)
