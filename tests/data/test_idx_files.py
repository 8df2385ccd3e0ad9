from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from trainyard.data.idx_files import IdxFilesConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import TO_DIVIDE, RawDataset


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


def write(folder: Path, name: str, count: int, ending: str = "") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 4, 5), dtype=np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 3)):
        content = idx(array)
        (folder / f"{name}-{kind}-ubyte{ending}").write_bytes(gzip.compress(content) if ending else content)
    return images


def read(folder: Path, classes: tuple[str, ...] = ()) -> RawDataset:
    return load(IdxFilesConfig(source="idx_files", path=folder.name, classes=classes), folder.parent, folder)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("test_name", ["t10k", "test"])
def test_training_and_test_files_are_read_and_kept_apart(tmp_path: Path, ending: str, test_name: str) -> None:
    train, test = write(tmp_path / "raw", "train", 7, ending), write(tmp_path / "raw", test_name, 5, ending)
    raw = read(tmp_path / "raw")
    assert np.array_equal(raw.arrays["images"][:, 0], np.concatenate([train, test]))
    assert raw.arrays["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1]
    assert raw.classes == ("0", "1", "2")
    assert raw.split is not None and raw.split.tolist() == [TO_DIVIDE] * 7 + [2] * 5


def test_names_with_a_point_before_idx_are_known(tmp_path: Path) -> None:
    train = write(tmp_path / "raw", "train", 7)
    for path in list((tmp_path / "raw").iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert np.array_equal(read(tmp_path / "raw").arrays["images"][:, 0], train)


def test_without_test_files_all_is_divided(tmp_path: Path) -> None:
    write(tmp_path / "raw", "train", 7)
    raw = read(tmp_path / "raw", ("a", "b", "c"))
    assert raw.classes == ("a", "b", "c")
    assert raw.split is not None and set(raw.split) == {TO_DIVIDE}


def test_an_empty_folder_names_the_files_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="train: not both files; images-idx3-ubyte and labels-idx1-ubyte"):
        read(tmp_path / "raw")


@pytest.mark.parametrize(
    ("classes", "names"), [((), ("1", "2", "3")), (("a", "b", "c"), ("a", "b", "c"))], ids=["without names", "with names"]
)
def test_labels_that_begin_at_1_are_classes_as_they_are(
    tmp_path: Path, classes: tuple[str, ...], names: tuple[str, ...]
) -> None:
    write(tmp_path / "raw", "train", 9)
    path = tmp_path / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[8:] = bytes(value + 1 for value in content[8:])
    path.write_bytes(content)
    raw = read(tmp_path / "raw", classes)
    assert raw.classes == names and raw.arrays["labels"].tolist() == [0, 1, 2] * 3
    with pytest.raises(DataError, match="labels up to 3; 0 to 1, as classes has it"):
        read(tmp_path / "raw", ("a", "b"))


def test_too_few_class_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw", "train", 7)
    with pytest.raises(DataError, match="labels up to 2; 0 to 1, as classes has it"):
        read(tmp_path / "raw", ("a", "b"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with "),
        (b"\x89PNG" + bytes(20), "begins with 89504e47; bytes in 3 dimensions: 0000 0803"),
        (idx(np.zeros((7, 4, 5)))[:-1], r"139 of the 140 values of shape \(7, 4, 5\)"),
        (idx(np.zeros((7, 4, 5))) + b"x", "more than the 140 values"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "a shape of"),
        (idx(np.zeros((6, 4, 5))), "6 images and 7 labels; as many labels as images"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    write(tmp_path / "raw", "train", 7)
    (tmp_path / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "raw")


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "raw", "train", 700, ".gz")
    path = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: no whole file"):
        read(tmp_path / "raw")


def test_a_link_out_of_the_project_is_refused_unread(tmp_path: Path) -> None:
    write(tmp_path / "project" / "raw", "train", 7)
    labels = tmp_path / "project" / "raw" / "train-labels-idx1-ubyte"
    labels.rename(tmp_path / "elsewhere")
    labels.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: a link to .*elsewhere; a file of the project") as caught:
        read(tmp_path / "project" / "raw")
    assert caught.value.exit_code == 5
