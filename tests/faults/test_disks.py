"""Disks that are full, read-only or others, where DVC keeps what stages made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.small import SmallProject, make_small_project

pytestmark = pytest.mark.faults
RAW = "raw " * 100_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 300 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine mounts no tmpfs: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def project_with_cache(root: Path, folder: Path, cache: Path, kind: str = "") -> SmallProject:
    project = make_small_project(root, folder)
    (project.folder / "raw.txt").write_text(RAW)
    project.run("dvc", "cache", "dir", str(cache))
    if kind:
        project.run("dvc", "config", "cache.type", kind)
    return project


def test_a_disk_that_is_full_when_dvc_keeps_a_result_leaves_a_project_that_goes_on(
    root: Path, tmp_path: Path, disk: Path
) -> None:
    project = project_with_cache(root, tmp_path / "project", disk)
    output = project.run("dvc", "repro", "first@a", code=255)
    # Named in docs/trouble.md.
    assert "No space left on device" in output
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    project.run("trainyard", "repair")
    project.run("dvc", "repro", "first@a")
    assert (project.folder / "a.first").read_text() == f"{RAW}first 1\n"
    assert "cache: OK, 1 files" in project.run("trainyard", "verify", "--cache")


@pytest.mark.long
def test_a_read_only_cache_is_named_and_the_project_goes_on(root: Path, tmp_path: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m,ro", str(disk)], check=True)
    project = project_with_cache(root, tmp_path / "project", disk)
    output = project.run("dvc", "repro", "first@a", code=255)
    assert "Read-only file system" in output
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    project.run("trainyard", "repair")
    project.run("dvc", "repro", "first@a")
    assert (project.folder / "a.first").read_text() == f"{RAW}first 1\n"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hardlink,copy", "symlink"])
def test_a_cache_on_another_disk_is_never_written_through_a_link(root: Path, tmp_path: Path, disk: Path, kind: str) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
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
