from __future__ import annotations

import os
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.data import image_folder, image_masks, numpy_arrays
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.problems import DataError, Problem
from trainyard.data.raw import RawDataset
from trainyard.data.splits import split_dataset

PATIENTS = 12
PATTERN = r"(p\d+)_"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four pictures of each patient in two classes, all different."""
    for patient in range(PATIENTS):
        for number in range(4):
            paint(tmp_path / "scans" / "ab"[number % 2] / f"p{patient}_{number}.png", patient * 4 + number)
    return tmp_path / "scans"


def paint(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def table(scans: Path, changes: dict[str, str] | None = None, more: str = "") -> Path:
    """Write a table with the group of every picture, but for some."""
    groups = {str(path.relative_to(scans)): path.name.split("_")[0] for path in sorted(scans.rglob("*.png"))}
    lines = [f"{path},{group}" for path, group in {**groups, **(changes or {})}.items() if group != "none"]
    (scans / "groups.csv").write_text("\n".join(["path,group", *lines]) + f"\n{more}")
    return scans


def read(scans: Path, **options: Any) -> RawDataset:
    config = ImageFolderConfig(**{"source": "image_folder", "path": scans.name, **options})
    return image_folder.load(config, scans.parent, scans.parent / "scratch", workers=1)


def refused(scans: Path, **options: Any) -> tuple[int, list[Problem]]:
    with pytest.raises(DataError) as caught:
        read(scans, **options)
    return caught.value.exit_code, caught.value.problems


def patients_by_split(raw: RawDataset) -> dict[str, set[str]]:
    parts = split_dataset(raw, val_fraction=0.2, test_fraction=0.2, seed=0).indices
    places = defaultdict(set)
    for split, rows in parts.items():
        for row in rows:
            places[Path(raw.names[row]).name.split("_")[0]].add(str(split))
    return places


def test_pictures_of_a_patient_are_never_in_two_splits(scans: Path) -> None:
    places = patients_by_split(read(scans, group=PATTERN))
    assert len(places) == PATIENTS
    assert {len(splits) for splits in places.values()} == {1}
    apart = patients_by_split(read(scans))
    assert max(len(splits) for splits in apart.values()) > 1


def test_a_table_says_the_same_as_a_pattern(scans: Path) -> None:
    by_name = read(scans, group=PATTERN)
    by_table = read(table(scans), groups="groups.csv")
    assert by_name.groups is not None and by_table.groups is not None
    assert by_table.groups.tolist() == by_name.groups.tolist()
    assert not by_table.warnings


def test_masks_go_with_their_images_groups(tmp_path: Path) -> None:
    for patient in range(6):
        for number in range(2):
            paint(tmp_path / "cells" / "images" / f"p{patient}_{number}.png", patient * 2 + number)
            paint(tmp_path / "cells" / "masks" / f"p{patient}_{number}.png", number)
    config = ImageMasksConfig(source="image_masks", path="cells", classes=("none", "cell"), group=PATTERN)
    raw = image_masks.load(config, tmp_path, tmp_path / "scratch", workers=1)
    assert {len(splits) for splits in patients_by_split(raw).values()} == {1}


@pytest.mark.parametrize("values", [np.arange(40) // 4, np.repeat([f"p{number}" for number in range(10)], 4)])
def test_arrays_take_numbers_and_words(tmp_path: Path, values: np.ndarray) -> None:
    raw = read_arrays(tmp_path / "raw", values)
    assert raw.groups is not None
    parts = split_dataset(raw, val_fraction=0.2, test_fraction=0.2, seed=0).indices
    found = [set(raw.groups[rows]) for rows in parts.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 10


def read_arrays(folder: Path, *groups: np.ndarray | None) -> RawDataset:
    parts = [folder] if len(groups) == 1 else [folder / name for name in ("train", "val", "test")]
    for part, values in zip(parts, groups, strict=True):
        part.mkdir(parents=True)
        count = 40 if values is None else len(values)
        np.save(part / "images.npy", np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8))
        np.save(part / "labels.npy", np.arange(count) % 2)
        if values is not None:
            np.save(part / "groups.npy", values)
    config = NumpyArraysConfig(source="numpy_arrays", path=folder.name, classes=("a", "b"))
    return numpy_arrays.load(config, folder.parent, folder)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([np.linspace(0, 1, 40)], r"groups of float64 with shape \(40,\); whole numbers or texts with shape \(40,\)"),
        ([np.zeros((40, 2), int)], r"groups of int64 with shape \(40, 2\)"),
        ([np.array(["a", ""] * 20)], r"raw:groups.npy: 20 empty names \(1, 3, 5, 7, 9, ...\); name the group of every image"),
        ([np.zeros(9, int), np.ones(9, int), np.array([2, 1, 0] * 3)], r"0 \(train, test\); 1 \(val, test\); what is tested"),
        ([np.zeros(9, int), None, np.ones(9, int)], "raw:val: no groups.npy; groups.npy beside every images.npy, or"),
    ],
)
def test_groups_of_arrays_that_do_not_fit_are_named(tmp_path: Path, groups: list[np.ndarray | None], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_arrays(tmp_path / "raw", *groups)
    assert caught.value.exit_code == 2


def test_a_groups_file_of_objects_is_refused_unread(tmp_path: Path) -> None:
    read_arrays(tmp_path / "raw", np.zeros(40, int))
    np.save(tmp_path / "raw" / "groups.npy", np.array(["a"] * 40, dtype=object), allow_pickle=True)
    config = NumpyArraysConfig(source="numpy_arrays", path="raw", classes=("a", "b"))
    with pytest.raises(DataError, match=r"groups\.npy: an array of Python objects") as caught:
        numpy_arrays.load(config, tmp_path, tmp_path)
    assert caught.value.exit_code == 5


def test_a_picture_that_the_pattern_does_not_find_is_named_or_left_out(scans: Path) -> None:
    paint(scans / "a" / "unknown.png", 99)
    code, (problem,) = refused(scans, group=PATTERN)
    assert (code, problem.rule, problem.where) == (2, "no-group", "a/unknown.png")
    raw = read(scans, group=PATTERN, on_bad_sample="skip")
    assert len(raw) == 48 and [problem.where for problem in raw.skipped] == ["a/unknown.png"]


def test_a_pattern_that_finds_nothing_is_said_once(scans: Path) -> None:
    _, problems = refused(scans, group="patient-([0-9]+)", on_bad_sample="skip")
    assert [str(problem) for problem in problems] == [
        "scans:data.group: gives a group to none of 48 images, such as a/p0_0.png; compare the two, and correct it"
    ]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(?:a|aa)+(x)$", "(a*)*b", "^(?:a*a*a*a*a*a*a*a*a*a*)(b)"])
def test_a_pattern_that_would_take_for_ever_is_stopped_within_a_second(scans: Path, pattern: str) -> None:
    paint(scans / "a" / ("a" * 50 + "!.png"), 99)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    _, problems = refused(scans, group=f"^./{pattern.removeprefix('^')}")
    assert {problem.rule for problem in problems} == {"slow-pattern"}
    # Of the processor: what else runs on the machine does not count.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": "(p"}, "is no regular expression"),
        ({"group": "p[0-9]+"}, "has 0 groups in parentheses"),
        ({"group": "(p)([0-9]+)"}, "has 2 groups in parentheses"),
        ({"group": PATTERN, "groups": "groups.csv"}, "group and groups both name groups"),
    ],
)
def test_options_that_name_no_groups_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageFolderConfig(source="image_folder", path="x", **options)


def test_an_order_and_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="split_by order"):
        ImageMasksConfig(source="image_masks", path="x", classes=("a", "b"), split_by="order", group=PATTERN)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../other/1.png",
        "a/../../1.png",
        "~/1.png",
        "~root/1.png",
        "file:///etc/passwd",
        "file:a/1.png",
        r"\\server\share\1.png",
        "//server/share/1.png",
        r"C:\pictures\1.png",
        r"..\1.png",
        "https://example.org/1.png",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused_with_its_row(scans: Path, path: str) -> None:
    code, problems = refused(table(scans, more=f"{path},p1\n"), groups="groups.csv", on_bad_sample="skip")
    assert code == 5
    assert [(problem.rule, problem.where) for problem in problems] == [("path-leaves", "groups.csv:50")]


def test_nothing_that_a_table_names_is_opened(scans: Path) -> None:
    pipe = scans.parent / "pipe.png"
    os.mkfifo(pipe)
    # The open of a pipe that nobody writes to would never return.
    assert refused(table(scans, more="../pipe.png,p1\n"), groups="groups.csv")[0] == 5


@pytest.mark.parametrize("name", ["../groups.csv", "/tmp/groups.csv", "~/groups.csv", "file:groups.csv", "link.csv"])
def test_a_table_outside_of_the_folder_is_refused(scans: Path, name: str) -> None:
    (scans.parent / "groups.csv").write_text("path,group\na/p0_0.png,p0\n")
    (scans / "link.csv").symlink_to(scans.parent / "groups.csv")
    code, problems = refused(scans, groups=name)
    assert (code, [problem.rule for problem in problems if problem.severity == "refused"]) == (5, ["outside"])


def test_a_table_of_groups_in_another_encoding_is_to_be_saved_as_utf_8(scans: Path) -> None:
    (table(scans) / "groups.csv").write_bytes("path,group\na/p0_0.png,Jos\u00e9\n".encode("cp1252"))
    said = refused(scans, groups="groups.csv")[1][0]
    assert (said.where, said.expected) == ("groups.csv:2", "save the file as UTF-8")


def test_pictures_without_a_row_and_rows_without_a_picture_are_named(scans: Path) -> None:
    table(scans, {"a/p0_0.png": "none", "b/p1_1.png": "", "a/p2_0.png": "p2"}, "a/gone.png,p1\n./a/p2_0.png,p3\n")
    _, problems = refused(scans, groups="groups.csv")
    assert [(problem.rule, problem.where) for problem in problems] == [
        ("no-group", "groups.csv:31"),
        ("unknown-path", "groups.csv:49"),
        ("two-groups", "groups.csv:50"),
        ("no-group", "a/p0_0.png"),
        ("no-group", "b/p1_1.png"),
    ]


def test_a_table_that_is_not_there_and_columns_that_are_not_in_it_are_named(scans: Path) -> None:
    (_, (problem,)) = refused(scans, groups="groups.csv")
    assert str(problem) == "groups.csv: no such file; put the table into the folder of data.path, or correct data.groups"
    (scans / "groups.csv").write_text("path,patient\na/p0_0.png,p0\n")
    (_, (problem,)) = refused(scans, groups="groups.csv")
    assert (problem.rule, problem.where) == ("no-column", "groups.csv:group")


def test_paths_with_backslashes_and_in_another_form_of_unicode_are_found(scans: Path) -> None:
    paint(scans / "a" / "p1_e\u0301.png", 99)
    table(scans, {"a/p1_e\u0301.png": "none", "a/p0_0.png": "none"}, "a\\p0_0.png,p0\n./a/p1_\u00e9.png,p1\n")
    assert len(read(scans, groups="groups.csv")) == 49


def test_groups_in_two_splits_of_the_source_are_refused_by_name(scans: Path) -> None:
    for path in sorted(scans.rglob("*.png")):
        patient = int(path.name.split("_")[0][1:])
        target = scans / ("test" if patient > 8 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for name in "ab":
        (scans / name).rmdir()
    assert {len(splits) for splits in patients_by_split(read(scans, group=PATTERN)).values()} == {1}
    paint(scans / "test" / "a" / "p3_9.png", 99)
    _, (problem,) = refused(scans, group=PATTERN)
    assert str(problem) == "scans:data.group: p3 (train, test); what is tested on must be new: put each group into one split"


def test_groups_that_differ_in_case_only_are_told_of(scans: Path) -> None:
    raw = read(table(scans, {"a/p0_0.png": "P0"}), groups="groups.csv")
    assert [(told.rule, told.found) for told in raw.warnings] == [
        ("like-groups", "'P0' and 'p0' differ in case or outer spaces only")
    ]
