"""Small projects, in which all has run or nothing has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.small import EXPECTED, SmallProject, make_small_project


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project in which all has run; to be copied, not changed."""
    project = make_small_project(root, tmp_path_factory.mktemp("finished") / "project")
    project.run("dvc", "repro")
    assert project.outputs() == EXPECTED
    project.run("trainyard", "repair")
    return project


@pytest.fixture
def done(root: Path, finished: SmallProject, tmp_path: Path) -> SmallProject:
    """A copy of the finished project, in a folder of its own."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    project = SmallProject(tmp_path / "project")
    project.environment.update(finished.environment, DVC_SITE_CACHE_DIR=str(tmp_path / "notes"))
    return project


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Iterator[SmallProject]:
    """A project in which nothing has run; its processes are ended afterwards."""
    project = make_small_project(root, tmp_path / "project")
    yield project
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.folder):
                process.kill()
        except (psutil.Error, OSError):
            continue
