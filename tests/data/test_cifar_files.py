from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainyard.data.cifar_files import CifarFilesConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import TO_DIVIDE, RawDataset

BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)]


def records(count: int, seed: int, label_bytes: int = 1, classes: int = 3) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    found[:, :label_bytes] = np.arange(count)[:, None] % classes
    return found


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """The files of CIFAR-10 with seven images each, and three classes."""
    for seed, name in enumerate([*BATCHES, "test_batch.bin"]):
        (tmp_path / name).write_bytes(records(7, seed).tobytes())
    (tmp_path / "batches.meta.txt").write_text("airplane\nbird\ncat\n\n")
    return tmp_path


def read(folder: Path, **keys: str) -> RawDataset:
    config = CifarFilesConfig(source="cifar_files", path=folder.name, **keys)  # type: ignore[arg-type]
    return load(config, folder.parent, folder / "scratch")


def test_images_labels_names_and_the_test_file_are_kept(ten: Path) -> None:
    raw = read(ten)
    assert raw.classes == ("airplane", "bird", "cat")
    assert raw.arrays["images"].shape == (42, 3, 32, 32)
    assert isinstance(raw.arrays["images"], np.memmap)
    # Byte 1 of a record is the upper left pixel's red, byte 1025 its green, byte 34 the red one below it.
    record = records(7, 3)[5]
    image = raw.arrays["images"][3 * 7 + 5]
    assert [image[0, 0, 0], image[1, 0, 0], image[0, 1, 0]] == [record[1], record[1025], record[33]]
    assert raw.arrays["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0] * 6
    assert raw.split is not None and raw.split.tolist() == [TO_DIVIDE] * 35 + [2] * 7
    assert (raw.names[0], raw.names[-1]) == ("data_batch_1.bin:0", "test_batch.bin:6")


@pytest.mark.parametrize(("labels", "place", "first"), [("fine", 1, "apple"), ("coarse", 0, "fruit")])
def test_of_cifar_100_the_fine_or_the_coarse_labels_are_read(tmp_path: Path, labels: str, place: int, first: str) -> None:
    both = records(6, 0, label_bytes=2, classes=2)
    both[:, 1] = [3, 2, 1, 0, 1, 2]
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(both.tobytes())
    (tmp_path / "fine_label_names.txt").write_text("apple\npear\nlamp\nchair\n")
    (tmp_path / "coarse_label_names.txt").write_text("fruit\nfurniture\n")
    raw = read(tmp_path, labels=labels)
    assert raw.classes[0] == first
    assert raw.arrays["labels"][:6].tolist() == both[:, place].tolist()
    assert np.array_equal(raw.arrays["images"][0].ravel(), both[0, 2:])


def cut(folder: Path) -> None:
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])


def foreign(folder: Path) -> None:
    strange = records(7, 0)
    strange[4, 0] = 9
    (folder / "test_batch.bin").write_bytes(strange.tobytes())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, r"data_batch_2\.bin: 21,510 bytes; a whole number of records of 3,073 bytes"),
        (foreign, r"test_batch\.bin: 1 labels up to 9, the first in record 4; 0 to 2"),
        (lambda folder: (folder / "data_batch_4.bin").unlink(), r"data_batch_4\.bin: no such file"),
        (lambda folder: (folder / "data_batch_4.bin").write_bytes(b""), r"data_batch_4\.bin: 0 bytes"),
        (lambda folder: (folder / "batches.meta.txt").unlink(), r"batches\.meta\.txt: no such file; the names of the classes"),
        (lambda folder: (folder / "batches.meta.txt").write_text("cat\ncat\n"), "2 names; between 2 and 256, each once"),
        (lambda folder: (folder / "batches.meta.txt").write_bytes(b"\xff\xfe"), r"batches\.meta\.txt: cannot be read"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(ten: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(ten)
    with pytest.raises(DataError, match=said):
        read(ten)


def test_all_problems_are_said_together(ten: Path) -> None:
    cut(ten)
    foreign(ten)
    with pytest.raises(DataError, match="2 problems"):
        read(ten)


def test_cifar_10_has_no_coarse_labels(ten: Path) -> None:
    with pytest.raises(DataError, match=r"coarse, but CIFAR-10 has one label an image; remove labels"):
        read(ten, labels="coarse")


@pytest.mark.parametrize("name", ["data_batch_3.bin", "batches.meta.txt"])
def test_a_link_out_of_the_project_is_refused_unread(ten: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    elsewhere = (ten / name).rename(tmp_path_factory.mktemp("elsewhere") / name)
    (ten / name).symlink_to(elsewhere)
    with pytest.raises(DataError, match=re.escape(f"{name}: a link to ")) as caught:
        load(CifarFilesConfig(source="cifar_files", path="."), ten, ten / "scratch")
    assert caught.value.exit_code == 5
