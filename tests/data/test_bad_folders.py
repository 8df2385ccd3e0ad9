"""What can be wrong with how a folder of images lies on the disk: classes, names, links, rights, and changes in between."""

from __future__ import annotations

import errno
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.pets import config, make_pets, paint, read, refused

from trainyard.data import image_pieces, image_tree, sources
from trainyard.data.packed import SPLITS, open_split
from trainyard.data.prepare import prepare
from trainyard.data.problems import DataError
from trainyard.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pets(tmp_path)


# --- Folders and classes


def clear(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        path.unlink()


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "a class without images": (lambda folder: (folder / "bird").mkdir(), {("empty-class", "bird")}),
    "a class that lost its images": (
        lambda folder: clear(folder / "dog"),
        {("empty-class", "dog"), ("too-few-classes", ".")},
    ),
    "a folder without classes": (lambda folder: paint(folder / "loose.png"), {("no-class", "loose.png")}),
    "splits within the classes": (
        lambda folder: paint(folder / "cat" / "train" / "0.png"),
        {("mixed-layout", "cat/train/0.png")},
    ),
    "splits beside classes": (
        lambda folder: paint(folder / "train" / "cat" / "0.png"),
        {("mixed-layout", ".")},
    ),
    "splits of other names": (
        lambda folder: [paint(folder / f"seg_{split}" / "cat" / "0.png") for split in ("train", "test")],
        {("like-splits", ".")},
    ),
    "splits of a year": (
        lambda folder: [paint(folder / f"{split}2017" / "0.png") for split in ("train", "val")],
        {("like-splits", ".")},
    ),
    "a phone's format": (lambda folder: (folder / "cat" / "a.heic").write_bytes(b"x"), {("unknown-format", "cat/a.heic")}),
    "a text under an image's name": (
        lambda folder: (folder / "cat" / "a.png").write_text("no image"),
        {("unknown-format", "cat/a.png")},
    ),
    "an empty file": (lambda folder: (folder / "cat" / "a.png").touch(), {("damaged-image", "cat/a.png")}),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_folder_that_is_laid_out_wrongly_is_refused_at_its_place(folder: Path, fault: str) -> None:
    make, expected = FOLDER_FAULTS[fault]
    make(folder)
    assert refused(folder) == expected


@pytest.mark.parametrize("clutter", ["@eaDir/0.png", "__MACOSX/cat", "lost+found", "$RECYCLE.BIN", ".ipynb_checkpoints"])
def test_what_systems_put_beside_the_data_is_passed_over(folder: Path, clutter: str) -> None:
    for place in (folder, folder / "cat"):
        paint(place / clutter / "0.jpg")
    raw = read(folder)
    assert len(raw) == 8 and raw.classes == ("cat", "dog") and not raw.warnings


def test_a_test_folder_without_classes_is_one_problem_with_what_to_do(tmp_path: Path) -> None:
    make_pets(tmp_path)
    (tmp_path / "all").mkdir()
    (tmp_path / "pets").rename(tmp_path / "all" / "train")
    for number in range(50):
        paint(tmp_path / "all" / "test" / f"{number}.png")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "all")
    assert [str(problem) for problem in caught.value.problems] == [
        "test: 50 images outside of any class folder, such as 0.png; "
        "put each into the folder of its class, or move those without a class elsewhere"
    ]


def test_classes_may_be_named_after_trains_and_tests(folder: Path) -> None:
    for name in ("train", "train station", "crash_test", "strain", "latest"):
        paint(folder / name / "0.png")
    assert len(read(folder).classes) == 7


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train", "test"), ("TRAIN", "Test")])
def test_folders_of_splits_are_known_by_the_names_that_people_give_them(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        make_pets(tmp_path / name)
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / name / "pets").rename(tmp_path / "all" / name)
    raw = read(tmp_path / "all")
    assert raw.split is not None and np.bincount(raw.split + 1).tolist() == [8, 0, 0, 8]


def test_a_class_of_one_image_is_named_with_what_it_needs(folder: Path, tmp_path: Path) -> None:
    paint(folder / "rare" / "0.png", 200)
    with pytest.raises(
        InputError, match="class 'rare': has 1 samples; it needs at least 3, one for each of train, val and test"
    ):
        prepare("pets", config(folder, val_fraction=0.3, test_fraction=0.3), tmp_path / "out", root=tmp_path)


def test_classes_that_differ_in_case_alone_are_a_warning(folder: Path) -> None:
    paint(folder / "Cat" / "0.png", 50)
    raw = read(folder)
    assert raw.classes == ("Cat", "cat", "dog")
    assert [str(warning) for warning in raw.warnings] == [
        "cat: a class whose name differs from Cat in case only; rename one, if they are meant to be one"
    ]


def test_a_class_of_the_test_folder_in_another_case_is_refused_with_the_one_that_is_meant(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/Cat", "test/dog"):
        paint(tmp_path / "pets" / name / "0.png")
    with pytest.raises(DataError, match="Cat: images in val or test only; rename it, if cat is meant"):
        read(tmp_path / "pets")


def test_one_image_under_two_classes_is_told_as_a_pair(folder: Path, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        paint(folder / kind / "same.png", 222)
        for number in range(10):
            paint(folder / kind / f"more{number}.png", (20 if kind == "cat" else 120) + number)
    card = prepare("pets", config(folder), tmp_path / "out", root=tmp_path)
    found = {warning["rule"]: warning["found"] for warning in card.warnings}
    assert found["equal-with-two-labels"] == "1 pair: dog/same.png (dog) = cat/same.png (cat)"
    assert card.duplicates_dropped == 1


# --- Names


ODD_NAMES = {
    "spaces": "a  b ",
    "a new line": "line\nbreak",
    "a leading dash": "-rf",
    "255 bytes": "n" * 251,
    "a composed letter": unicodedata.normalize("NFC", "é"),
    "a letter and its accent": unicodedata.normalize("NFD", "é"),
    "signs from right to left": "\u202eabc",
    "no UTF-8": os.fsdecode(b"caf\xe9"),
    "in capitals": "A",
    "in small letters": "a",
}


def test_images_of_any_name_are_packed_and_their_names_can_be_printed(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES.values()):
        paint(folder / "cat" / f"{name}.png", 10 + number)
    paint(folder / "dog" / "9.png", 250)
    prepare("pets", config(folder), tmp_path / "out", root=tmp_path)
    splits = [open_split(tmp_path / "out", name) for name in SPLITS]
    names = {split.sample_name(row) for split in splits for row in range(len(split))}
    assert len(names) == 9 + len(ODD_NAMES)
    assert all(name.isprintable() for name in names)
    assert {"cat/line\\nbreak.png", "cat/-rf.png", "cat/caf\\udce9.png"} <= names


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_damaged_image_of_any_name_is_named_in_signs_that_any_terminal_takes(folder: Path, name: str) -> None:
    (folder / "cat" / f"{ODD_NAMES[name]}.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        read(folder)
    [problem] = caught.value.problems
    assert problem.rule == "unknown-format"
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert len(str(caught.value).splitlines()) == 2
    assert problem.to_json()["where"].isprintable()


def test_folders_that_a_reader_cannot_tell_apart_are_refused(folder: Path) -> None:
    for form in ("NFC", "NFD"):
        paint(folder / unicodedata.normalize(form, "é") / "0.png")
    os.mkdir(os.fsencode(folder) + b"/\xfe")
    paint(folder / os.fsdecode(b"\xfe") / "0.png")
    assert refused(folder) == {
        ("twin-names", unicodedata.normalize("NFC", "é")),
        ("name-not-utf8", os.fsdecode(b"\xfe")),
    }


# --- Links


@pytest.fixture
def project(folder: Path) -> Path:
    """A project's folder with the images in it, beside what is none of its business."""
    (folder.parent / "project").mkdir()
    paint(folder.parent / "secret" / "0.png")
    return folder.rename(folder.parent / "project" / "pets")


LINKS: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]], int]] = {
    "a link to a file elsewhere": (
        lambda folder: (folder / "cat" / "out.png").symlink_to(folder.parents[1] / "secret" / "0.png"),
        {("link-leaves", "cat/out.png")},
        5,
    ),
    "a link upwards": (
        lambda folder: (folder / "cat" / "out.png").symlink_to("../../../secret/0.png"),
        {("link-leaves", "cat/out.png")},
        5,
    ),
    "a link to a folder elsewhere": (
        lambda folder: (folder / "cat" / "more").symlink_to(folder.parents[1] / "secret"),
        {("link-leaves", "cat/more")},
        5,
    ),
    "a link by way of a link": (
        lambda folder: (
            (folder.parent / "way").symlink_to(folder.parents[1] / "secret"),
            (folder / "cat" / "out.png").symlink_to(folder.parent / "way" / "0.png"),
        ),
        {("link-leaves", "cat/out.png")},
        5,
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "cat" / "pipe.png"), {("not-a-file", "cat/pipe.png")}, 5),
    "a link to nothing": (
        lambda folder: (folder / "cat" / "gone.png").symlink_to("nowhere.png"),
        {("dangling-link", "cat/gone.png")},
        2,
    ),
    "a link to itself": (
        lambda folder: (folder / "cat" / "self.png").symlink_to("self.png"),
        {("link-loop", "cat/self.png")},
        2,
    ),
    "a link to the folder above": (
        lambda folder: (folder / "cat" / "up").symlink_to(folder),
        {("link-loop", "cat/up")},
        2,
    ),
}


@pytest.mark.parametrize("link", LINKS)
def test_links_that_leave_or_lead_nowhere_are_refused(project: Path, link: str) -> None:
    make, expected, code = LINKS[link]
    make(project)
    assert refused(project, code) == expected


def test_links_within_the_project_and_hard_links_are_read(project: Path) -> None:
    (project / "cat" / "dog.png").symlink_to("../dog/0.png")
    paint(project.parent / "other" / "0.png", 7)
    (project / "cat" / "other").symlink_to(project.parent / "other")
    os.link(project.parents[1] / "secret" / "0.png", project / "dog" / "hard.png")
    raw = read(project)
    assert len(raw) == 11 and raw.arrays["images"][raw.names.index("cat/other/0.png")].max() == 7


# --- Data that change, or are not there


@pytest.mark.parametrize("change", ["rewritten", "of another size", "gone"])
def test_a_file_that_changes_while_the_folder_is_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(image_pieces, "PROGRESS_SECONDS", 0.0)
    path = folder / "dog" / "1.png"

    def meddle(told: str) -> None:
        if not told.startswith("looked at"):
            return
        if change == "gone":
            path.unlink()
        elif change == "rewritten":
            content, before = path.read_bytes(), path.stat().st_mtime_ns
            path.write_bytes(content)
            os.utime(path, ns=(before + 10**9, before + 10**9))
        else:
            paint(path, size=(30, 20))

    with pytest.raises(DataError) as caught:
        read(folder, meddle, size=None, channels=None)
    expected = {("changed-while-read", "dog/1.png")} | ({("unreadable-image", "dog/1.png")} if change == "gone" else set())
    found = {(problem.rule, problem.where) for problem in caught.value.problems}
    assert found - {("mixed-sizes", ".")} == expected


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "pets: no such file or folder; put the data there, or correct data.path"),
        (lambda path: path.write_text("x"), "pets: is a file; image_folder reads a folder"),
        (lambda path: path.symlink_to("gone"), "pets: a link to what is not there"),
        (lambda path: path.mkdir(), r"0 classes \(no images\)"),
    ],
    ids=["missing", "a file", "a dangling link", "empty"],
)
def test_a_path_without_a_folder_of_images_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "pets")
    with pytest.raises(InputError, match=said) as caught:
        sources.load(config(tmp_path / "pets"), tmp_path, tmp_path / "scratch")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("kept", ["pets", "raw"])
def test_data_that_dvc_keeps_elsewhere_are_said_to_be_brought_by_it(tmp_path: Path, kept: str) -> None:
    (tmp_path / f"{kept}.dvc").touch()
    path = "pets" if kept == "pets" else "raw/pets"
    with pytest.raises(InputError, match=f"no such file or folder; DVC keeps the data: dvc checkout {kept}.dvc, or dvc pull"):
        sources.load(config(tmp_path, path=path), tmp_path, tmp_path / "scratch")


# --- Rights


def as_nobody(work: Callable[[], str]) -> str:
    """Return what work returns in a process that is not root, to whom all files are open."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that anybody may read and write, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        yield Path(place)


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("pets", "pets: cannot be read; make it readable for this user"),
        ("pets/cat", "unreadable-folder cat"),
        ("pets/cat/0.png", "unreadable-image cat/0.png"),
    ],
)
def test_what_this_user_may_not_read_is_named(open_place: Path, closed: str, said: str) -> None:
    for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
        paint(open_place / "pets" / f"{name}.png")
    os.chmod(open_place / closed, 0)

    def work() -> str:
        try:
            sources.load(config(open_place / "pets"), open_place, open_place / "scratch")
        except DataError as error:
            return "; ".join(f"{problem.rule} {problem.where}" for problem in error.problems)
        except InputError as error:
            return str(error)
        return "nothing"

    assert said in as_nobody(work)
    os.chmod(open_place / closed, 0o755)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, {("unreadable-folder", "dog"), ("too-few-classes", ".")}),
        (errno.ENOENT, {("changed-while-read", "dog/1.png")}),
        (errno.EIO, {("changed-while-read", "dog/1.png")}),
    ],
    ids=["a folder that cannot be entered", "gone", "a failing disk"],
)
def test_a_file_of_which_the_system_says_nothing_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: set[tuple[str, str]]
) -> None:
    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self.is_dir, self.is_symlink = entry.name, entry.path, entry.is_dir, entry.is_symlink
            self.real = entry

        def stat(self) -> os.stat_result:
            if self.path.endswith("dog/1.png" if number != errno.EACCES else ".png") and "dog" in self.path:
                raise OSError(number, os.strerror(number))
            return self.real.stat()

    scandir = os.scandir
    monkeypatch.setattr(image_tree.os, "scandir", lambda path: [Entry(entry) for entry in scandir(path)])
    found = refused(folder)
    assert expected <= found and len({where for _, where in found}) <= 2
