from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.data import image_files, image_pieces
from trainyard.data.image_folder import ImageFolderConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset


def paint(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        paint(tmp_path / "pets" / "cat" / f"{number}.png", number)
        paint(tmp_path / "pets" / "dog" / f"{number}.png", 100 + number)
    return tmp_path / "pets"


def read(folder: Path, scratch: str = "scratch", workers: int = 1, **changes: Any) -> RawDataset:
    config = ImageFolderConfig(**{"source": "image_folder", "path": folder.name, **changes})
    return load(config, folder.parent, folder.parent / scratch, workers=workers)


def rules(folder: Path, **changes: Any) -> dict[str, str]:
    with pytest.raises(DataError) as caught:
        read(folder, **changes)
    return {problem.rule: str(problem) for problem in caught.value.problems}


def test_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    raw = read(folder)
    assert raw.classes == ("cat", "dog")
    assert raw.arrays["images"][:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert raw.arrays["images"].shape == (6, 1, 4, 6)
    assert raw.arrays["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert raw.names[0] == "cat/0.png" and raw.split is None and not raw.warnings


@pytest.mark.parametrize(
    ("others", "expected"), [((), None), (("test",), {-1, 2}), (("valid",), {-1, 1}), (("val", "test"), {0, 1, 2})]
)
def test_folders_of_splits_are_kept_and_training_is_divided_where_one_is_missing(
    folder: Path, tmp_path: Path, others: tuple[str, ...], expected: set[int] | None
) -> None:
    for name in ("train", *others):
        for kind in ("cat", "dog"):
            paint(tmp_path / "split" / name / kind / "0.png")
    raw = read(tmp_path / "split")
    assert raw.classes == ("cat", "dog")
    assert (None if raw.split is None else set(raw.split.tolist())) == expected


def test_differing_sizes_and_kinds_are_counted_and_ask_for_a_parameter(folder: Path) -> None:
    paint(folder / "cat" / "large.png", size=(9, 8))
    paint(folder / "cat" / "colour.png", mode="RGB")
    found = rules(folder)
    assert "4 x 6: 7 images; 8 x 9: 1 images; set data.size" in found["mixed-sizes"]
    assert "L (1 channels): 7 images; RGB (3 channels): 1 images; set data.channels" in found["mixed-channels"]
    assert read(folder, size=5, channels=3).arrays["images"].shape == (8, 3, 5, 5)


def test_all_damaged_files_are_named_or_left_out(folder: Path) -> None:
    whole = paint(folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "1.png").write_bytes(whole[:-12])
    (folder / "dog" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        read(folder, size=4, channels=1)
    assert [problem.where for problem in caught.value.problems] == ["cat/1.png", "dog/2.png"]
    for changes in ({}, {"size": (4, 6), "channels": 1}):
        raw = read(folder, on_bad_sample="skip", **changes)
        assert raw.arrays["images"][:, 0, 0, 0].tolist() == [0, 2, 100, 101]
        assert raw.arrays["labels"].tolist() == [0, 0, 1, 1]
        assert sorted(problem.where for problem in raw.skipped) == ["cat/1.png", "dog/2.png"]


def test_odd_folders_are_named(folder: Path) -> None:
    (folder / "bird").mkdir()
    paint(folder / "loose.png")
    assert set(rules(folder)) == {"empty-class", "no-class"}


def test_one_class_is_too_few(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "only" / "0.png")
    assert "1 class (only)" in rules(tmp_path / "a")["too-few-classes"]


def test_a_class_of_the_test_folder_alone_is_refused(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "test/a", "test/c"):
        paint(tmp_path / "x" / path / "0.png")
    assert list(rules(tmp_path / "x")) == ["class-not-in-train"]


def test_what_is_no_image_is_a_warning_and_hidden_files_are_none(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "cat" / ".DS_Store").write_text("x")
    paint(folder / "cat" / "kitten" / "9.png")
    raw = read(folder)
    assert {warning.rule for warning in raw.warnings} == {"stray-files", "nested-folder"}
    assert len(raw) == 7
    (folder / "cat" / "phone.heic").write_text("x")
    assert "unknown-format" in rules(folder)


def test_links_are_followed_inside_and_refused_outside(folder: Path, tmp_path: Path) -> None:
    outside = paint(tmp_path / "secret" / "0.png", 55)
    project = tmp_path / "project"
    project.mkdir()
    folder = folder.rename(project / "pets")
    (folder / "cat" / "link.png").symlink_to(folder / "dog" / "0.png")
    os.link(folder / "dog" / "1.png", folder / "dog" / "hard.png")
    assert len(read(folder)) == 8
    (folder / "cat" / "out.png").symlink_to(outside)
    (folder / "dog" / "gone.png").symlink_to("nowhere")
    (folder / "dog" / "self.png").symlink_to("self.png")
    (folder / "dog" / "up").symlink_to(folder, target_is_directory=True)
    with pytest.raises(DataError) as caught:
        read(folder)
    assert caught.value.exit_code == 5
    assert {(p.where, p.rule) for p in caught.value.problems} == {
        ("cat/out.png", "link-leaves"),
        ("dog/gone.png", "dangling-link"),
        ("dog/self.png", "link-loop"),
        ("dog/up", "link-loop"),
    }


def test_pictures_that_dvc_links_to_its_cache_elsewhere_are_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    folder = folder.rename(tmp_path / "project" / "pets")
    before = read(folder)
    for path in [path for path in folder.rglob("*.png")]:
        # As `dvc add` does with `cache.type symlink`, and a cache that clones share.
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        place = tmp_path / "shared" / "files" / "md5" / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        path.symlink_to(place)
    after = read(folder)
    assert after.names == before.names
    assert np.array_equal(after.arrays["images"], before.arrays["images"])


def test_odd_names_work_or_are_named(folder: Path) -> None:
    names = ["a b", "line\nbreak", "-rf", "é" * 60, unicodedata.normalize("NFD", "é"), "é", "日本"]
    for name in names:
        paint(folder / "cat" / f"{name}.png")
    Image.new("L", (6, 4)).save(os.path.join(os.fsencode(folder), b"dog", b"\xff.png").decode("utf-8", "surrogateescape"))
    raw = read(folder)
    assert len(raw) == 6 + len(names) + 1
    "".join(raw.names).encode("utf-8")
    for name in (unicodedata.normalize("NFD", "é"), "é"):
        paint(folder / name / "0.png")
    os.mkdir(os.path.join(os.fsencode(folder), b"\xfe"))
    found = rules(folder)
    assert {"twin-names", "name-not-utf8"} <= set(found)
    "".join(found.values()).encode("utf-8")


def test_the_number_of_processes_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pieces, "FILES_PER_PIECE", 2)
    alone = read(folder, "one", workers=1)
    both = read(folder, "two", workers=2)
    assert (folder.parent / "one/images.npy").read_bytes() == (folder.parent / "two/images.npy").read_bytes()
    assert alone.names == both.names and np.array_equal(alone.arrays["labels"], both.arrays["labels"])


def test_large_files_are_read_a_few_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [path.stat().st_size for path in sorted(folder.rglob("*.png"))]
    monkeypatch.setattr(image_pieces, "BYTES_PER_PIECE", sum(sizes[:2]))
    expected = read(folder, "whole").arrays["images"].tobytes()
    assert [path.name[5:14] for path in sorted((folder.parent / "whole").glob("rows-*"))] == [
        "000000000",
        "000000002",
        "000000004",
    ]
    assert read(folder, "two", workers=2).arrays["images"].tobytes() == expected


def test_an_interrupted_run_decodes_only_what_is_missing_or_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pieces, "FILES_PER_PIECE", 2)
    expected = read(folder).arrays["images"].tobytes()
    decoded: list[int] = []
    write_rows = image_pieces._write_rows

    def spy(start: int, *rest: Any) -> Any:
        decoded.append(start)
        return write_rows(start, *rest)

    monkeypatch.setattr(image_pieces, "_write_rows", spy)
    (folder.parent / "scratch" / "rows-000000002.json").unlink()
    assert read(folder).arrays["images"].tobytes() == expected
    assert decoded == [2]
    paint(folder / "dog" / "2.png", 7)
    assert read(folder).arrays["images"][5, 0, 0, 0] == 7
    assert decoded == [2, 4]
    read(folder, resize="pad", size=(4, 6))
    assert decoded == [2, 4, 0, 2, 4]


def test_a_file_that_was_restored_with_its_size_and_time_is_read_again(folder: Path) -> None:
    path = folder / "dog" / "1.png"
    whole, before = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(bytes(len(whole)))
    os.utime(path, ns=(before, before))
    assert set(rules(folder)) == {"damaged-image"}
    path.write_bytes(whole)
    os.utime(path, ns=(before, before))
    assert len(read(folder)) == 6


@pytest.mark.parametrize("on_bad_sample", ["stop", "skip"])
def test_no_sample_is_left_out_because_a_disk_fails_while_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, on_bad_sample: str
) -> None:
    whole = image_files._whole

    def fail(file: Any) -> bytes:
        if os.readlink(f"/proc/self/fd/{file.fileno()}").endswith("dog/1.png"):
            raise OSError(errno.EIO, "Input/output error")
        return whole(file)

    monkeypatch.setattr(image_files, "_whole", fail)
    assert set(rules(folder, on_bad_sample=on_bad_sample)) == {"failing-disk"}
    monkeypatch.setattr(image_files, "_whole", whole)
    assert len(read(folder, on_bad_sample=on_bad_sample)) == 6


def test_a_full_disk_is_an_error_and_no_crash(folder: Path, out_of_space: Any) -> None:
    code = (
        "from pathlib import Path; from trainyard.data.image_folder import *;"
        "load(ImageFolderConfig(source='image_folder', path='pets', size=200), Path('.'), Path('scratch'), workers=1)"
    )
    assert "File too large" in out_of_space(code)
