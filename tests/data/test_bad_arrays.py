"""What can be wrong with NumPy files that a user brings, and what they must never be able to do."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainyard.data import sources
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.problems import DataError
from trainyard.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 9), dtype=np.uint8)
CONFIG = NumpyArraysConfig(source="numpy_arrays", path="raw", classes=("none", "cell"))


class Attack:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Whole arrays in a project's folder."""
    folder = tmp_path / "project" / "raw"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "labels.npy", np.arange(6) % 2)
    return folder


def refused(raw: Path) -> tuple[int, set[tuple[str, str]], str]:
    """Return the exit code, the rules and places, and the message."""
    with pytest.raises(DataError) as caught:
        sources.load(CONFIG, raw.parent, raw.parent / "scratch")
    error = caught.value
    return error.exit_code, {(problem.rule, problem.where) for problem in error.problems}, str(error)


def pickled_array(attack: Attack) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([attack], dtype=object), allow_pickle=True)
    return content.getvalue()


def pickled_archive(attack: Attack) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("arr_0.npy", pickled_array(attack))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "rule"),
    [(pickled_array, "pickled-array"), (pickle.dumps, "pickled-array"), (pickled_archive, "archived-array")],
    ids=["an array of objects", "a pickle", "an archive of pickles"],
)
@pytest.mark.parametrize("name", ["images", "labels"])
def test_nothing_in_a_pickle_runs(raw: Path, tmp_path: Path, name: str, content: Callable[[Attack], bytes], rule: str) -> None:
    (raw / f"{name}.npy").write_bytes(content(Attack(tmp_path / "ran")))
    assert refused(raw)[:2] == (5, {(rule, f"{name}.npy")})
    assert not (tmp_path / "ran").exists()
    # The attack is one: what is refused would have run.
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_an_archive_beside_no_arrays_is_not_opened_and_named(raw: Path, tmp_path: Path) -> None:
    for path in raw.iterdir():
        path.unlink()
    (raw / "images.npz").write_bytes(pickled_archive(Attack(tmp_path / "ran")))
    code, found, said = refused(raw)
    assert (code, found) == (2, {("missing-array", ".")})
    assert "save each array of images.npz as a .npy file of its own" in said and not (tmp_path / "ran").exists()


def test_pixels_that_are_no_numbers_are_counted(raw: Path) -> None:
    values = IMAGES / 255
    values[2, :3, 0], values[5, 0, 0] = np.nan, np.inf
    np.save(raw / "images.npy", values)
    code, found, said = refused(raw)
    assert (code, found) == (2, {("images-type", ".")})
    assert "images of float64 with shape (6, 8, 9), 4 pixels of them NaN or infinite; uint8 with shape" in said


@pytest.mark.parametrize("part", range(1, 20))
def test_an_array_cut_anywhere_is_named(raw: Path, part: int) -> None:
    whole = (raw / "images.npy").read_bytes()
    (raw / "images.npy").write_bytes(whole[: len(whole) * part // 20])
    assert refused(raw)[:2] == (2, {("unreadable-array", "images.npy")})


def test_a_header_that_promises_more_than_the_memory_holds_is_refused(raw: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": (10**13, 8, 9)})
    (raw / "images.npy").write_bytes(content.getvalue() + bytes(100))
    assert refused(raw)[:2] == (2, {("unreadable-array", "images.npy")})


FOREIGN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "a link out of the project": (lambda path, outside: path.symlink_to(outside), "link-leaves"),
    "a link to nothing": (lambda path, outside: path.symlink_to("gone"), "missing-array"),
    "a link to itself": (lambda path, outside: path.symlink_to(path.name), "missing-array"),
    "a pipe": (lambda path, outside: os.mkfifo(path), "not-a-file"),
    "a folder": (lambda path, outside: path.mkdir(), "not-a-file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_file_of_the_project_is_not_opened(raw: Path, tmp_path: Path, kind: str) -> None:
    outside = (raw / "images.npy").rename(tmp_path / "images.npy")
    make, rule = FOREIGN[kind]
    make(raw / "images.npy", outside)
    code, found, _ = refused(raw)
    assert found == {(rule, "." if rule == "missing-array" else "images.npy")}
    assert code == (2 if rule == "missing-array" else 5)


def test_links_within_the_project_are_read(raw: Path) -> None:
    (raw / "images.npy").rename(raw.parent / "large.npy")
    (raw / "images.npy").symlink_to(raw.parent / "large.npy")
    assert len(sources.load(CONFIG, raw.parent, raw.parent / "scratch")) == 6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda raw: raw.rename(raw.with_name("row")), "raw: no such file or folder"),
        (lambda raw: (raw.rename(raw.with_name("row")), raw.write_text("x")), "raw: is a file; numpy_arrays reads a folder"),
        (lambda raw: [path.unlink() for path in raw.iterdir()], "none of them; images.npy beside labels.npy or masks.npy"),
    ],
    ids=["missing", "a file", "empty"],
)
def test_a_path_without_arrays_is_refused(raw: Path, make: Callable[[Path], object], said: str) -> None:
    make(raw)
    with pytest.raises(InputError, match=said) as caught:
        sources.load(CONFIG, raw.parent, raw.parent / "scratch")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("labels", np.eye(2)[[0, 1, 0, 1, 0, 1]], r"of rows with a 1 at the class, save labels.argmax\(axis=1\)"),
        ("labels", np.zeros((6, 1), dtype=np.int64), r"save labels.reshape\(-1\).astype\('int64'\)"),
        ("labels", np.zeros(6), r"save labels.reshape\(-1\).astype\('int64'\)"),
        ("images", IMAGES / 255, r"save \(images \* 255\).round\(\).astype\('uint8'\)"),
    ],
    ids=["one-hot", "a column", "floats", "images of floats"],
)
def test_numbers_of_another_form_are_said_how_to_save(raw: Path, name: str, array: np.ndarray, said: str) -> None:
    np.save(raw / f"{name}.npy", array)
    code, _, message = refused(raw)
    assert code == 2 and re.search(said, message)


def test_masks_of_true_and_false_are_said_how_to_save(raw: Path) -> None:
    (raw / "labels.npy").unlink()
    np.save(raw / "masks.npy", np.zeros((*IMAGES.shape, 1), dtype=bool))
    assert f"save masks.reshape{IMAGES.shape}.astype('uint8')" in refused(raw)[2]
