"""Disks that are full, read-only or others, where DVC keeps what stages made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disks import Disks
from tests.faults.small import SmallProject, make_small_project

pytestmark = pytest.mark.faults
RAW = "raw " * 100_000


@pytest.fixture
def disk(disks: Disks, tmp_path: Path) -> Path:
    """A file system of its own, of 300 kB."""
    return disks.small(tmp_path / "disk", "300k")


def project_with_cache(root: Path, folder: Path, cache: Path, kind: str = "") -> SmallProject:
    project = make_small_project(root, folder)
    (project.folder / "raw.txt").write_text(RAW)
    project.run("dvc", "cache", "dir", str(cache))
    if kind:
        project.run("dvc", "config", "cache.type", kind)
    return project


def test_a_disk_that_is_full_when_dvc_keeps_a_result_leaves_a_project_that_goes_on(
    root: Path, tmp_path: Path, disks: Disks, disk: Path
) -> None:
    project = project_with_cache(root, tmp_path / "project", disk)
    output = project.run("dvc", "repro", "first@a", code=255)
    # Named in docs/trouble.md.
    assert "No space left on device" in output
    assert "Traceback" not in output
    disks.remount(disk, "size=20m")
    project.run("trainyard", "repair")
    project.run("dvc", "repro", "first@a")
    assert (project.folder / "a.first").read_text() == f"{RAW}first 1\n"
    assert "cache: OK, 1 files" in project.run("trainyard", "verify", "--cache")


@pytest.mark.long
def test_a_read_only_cache_is_named_and_the_project_goes_on(root: Path, tmp_path: Path, disks: Disks, disk: Path) -> None:
    disks.remount(disk, "size=20m,ro")
    project = project_with_cache(root, tmp_path / "project", disk)
    output = project.run("dvc", "repro", "first@a", code=255)
    assert "Read-only file system" in output
    assert "Traceback" not in output
    disks.remount(disk, "rw")
    project.run("trainyard", "repair")
    project.run("dvc", "repro", "first@a")
    assert (project.folder / "a.first").read_text() == f"{RAW}first 1\n"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hardlink,copy", "symlink"])
def test_a_cache_on_another_disk_is_never_written_through_a_link(
    root: Path, tmp_path: Path, disks: Disks, disk: Path, kind: str
) -> None:
    disks.remount(disk, "size=20m")
    project = project_with_cache(root, tmp_path / "project", disk, kind)
    project.run("dvc", "repro", "second@a")
    before = (project.folder / "a.second").read_text()
    project.change("a: {first: 1, second: 1}", "a: {first: 5, second: 5}")
    project.run("dvc", "repro", "second@a")
    assert (project.folder / "a.second").read_text() == f"{RAW}first 5\nsecond 5\n"
    project.change("a: {first: 5, second: 5}", "a: {first: 1, second: 1}")
    output = project.run("dvc", "repro", "second@a")
    assert output.count("is cached - skipping run") == 2
    assert (project.folder / "a.second").read_text() == before
    assert "cache: OK, 2 files" in project.run("trainyard", "verify", "--cache")
