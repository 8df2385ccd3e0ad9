"""What is said where the system refuses to read raw data, or to write what is made of them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.pets import config, make_pets

from trainyard.data import cifar_files, numpy_arrays, parallel
from trainyard.data.check import check
from trainyard.data.cifar_files import CifarFilesConfig
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.prepare import prepare
from trainyard.errors import MachineError
from trainyard.file_lock import take


def refusal(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


def test_raw_data_without_permission_are_named_and_not_the_folder_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = tmp_path / "cifar" / "data_batch_1.bin"

    def refuse(*_: object) -> None:
        raise refusal(errno.EACCES, batch)

    batch.parent.mkdir()
    monkeypatch.setattr(cifar_files, "_records", refuse)
    (tmp_path / "cifar" / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(MachineError, match=r"cifar/data_batch_1.bin: cannot be read \(Permission denied\); make it readable"):
        prepare("x", CifarFilesConfig(source="cifar_files", path="cifar"), tmp_path / "out", root=tmp_path)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EIO, r"its disk or network fails \(Input/output error\); look after it"),
        (errno.ESTALE, r"its disk or network fails \(Stale file handle\); look after it"),
        (errno.ENODEV, r"maps no files into memory \(No such device\); put it on another disk"),
    ],
)
def test_arrays_on_a_disk_that_fails_are_not_said_to_be_saved_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "images.npy", np.zeros((8, 4, 4), dtype=np.uint8))
    np.save(tmp_path / "raw" / "labels.npy", np.arange(8) % 2)

    def fail(*_: object, **__: object) -> None:
        raise refusal(number)

    monkeypatch.setattr(numpy_arrays.np, "load", fail)
    arrays = NumpyArraysConfig(source="numpy_arrays", path="raw", classes=("cat", "dog"))
    with pytest.raises(MachineError, match=said):
        check(arrays, tmp_path)
    with pytest.raises(MachineError, match=said):
        prepare("x", arrays, tmp_path / "out", root=tmp_path)


def test_a_check_that_finds_no_room_names_the_folder_of_temporary_files(
    tmp_path: Path, out_of_space: Callable[[str], str]
) -> None:
    make_pets(tmp_path)
    said = out_of_space(
        "import pathlib; from trainyard.data.check import check; from trainyard.data.image_folder import ImageFolderConfig;"
        "check(ImageFolderConfig(source='image_folder', path='pets', size=100, channels=3), pathlib.Path.cwd())"
    )
    assert "cannot be written (File too large" in said and "set TMPDIR to a folder with room" in said


def test_where_no_processes_can_be_started_the_place_of_their_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise refusal(errno.EACCES)

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)
    with pytest.raises(MachineError, match=r"/dev/shm: .*Permission denied.*; make it writable"):
        list(parallel.in_order(str, [1, 2], workers=2))


def test_a_packed_folder_that_cannot_be_written_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_pets(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise refusal(errno.EACCES, tmp_path / ".out.tmp")

    monkeypatch.setattr("trainyard.data.prepare._pack", refuse)
    with pytest.raises(MachineError, match=r"/out: cannot be written \(Permission denied; .* bytes free\); make room there"):
        prepare("x", config(folder), tmp_path / "out", root=tmp_path)


def test_what_a_killed_check_left_is_deleted_and_what_another_one_uses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = make_pets(tmp_path), tmp_path / "temporary"
    for name in ("trainyard-check-killed", "trainyard-check-at-work", "trainyard-check-foreign"):
        (place / name).mkdir(parents=True)
        (place / name / "images.npy").write_bytes(bytes(100))
    (place / "trainyard-check-killed" / "in-use").touch()
    (place / "trainyard-check-new").mkdir()
    (place / "trainyard-check-new" / "in-use").touch()
    for path in place.iterdir():
        if path.name != "trainyard-check-new":
            os.utime(path, (0, 0))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with (place / "trainyard-check-at-work" / "in-use").open("w") as file:
        assert take(file)
        os.utime(place / "trainyard-check-at-work", (0, 0))
        check(config(folder, val_fraction=0.25, test_fraction=0.25), tmp_path)
    assert sorted(path.name[16:] for path in place.iterdir()) == ["at-work", "foreign", "new"]
