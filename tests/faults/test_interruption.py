"""A pipeline that is killed, and the same command again."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.disks import Disks
from tests.pipeline.conftest import Project, make_project

pytestmark = [pytest.mark.pipeline, pytest.mark.faults]


def wait_for(condition: object, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def processes_of(project: Project) -> list[psutil.Process]:
    """Return all processes that work for the project, Ray's own included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TRAINYARD_TEST") == str(project.folder) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.cluster
def test_a_killed_repro_leaves_no_process_and_continues_to_the_same_bits(root: Path, tmp_path: Path) -> None:
    changes = {"workers: 0": "workers: 2", "epochs: 6,": "epochs: 100,"}
    project = make_project(root, tmp_path, changes)
    project.environment["TRAINYARD_TEST"] = str(project.folder)
    weights = project.folder / "models" / "cnn" / "model.safetensors"

    started = project.start("dvc", "repro", "train@cnn")
    spools = project.folder / ".trainyard" / "train"
    wait_for(lambda: any(s.read_text().count('"epoch",') >= 3 for s in spools.glob("*/spool.jsonl")), 300, "three epochs")
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not weights.exists(), "training was over before it was killed"
    wait_for(lambda: not processes_of(project), 20, f"the end of {[p.cmdline() for p in processes_of(project)]}")

    output = project.run("dvc", "repro", "train@cnn")
    assert "cnn · train · continues after epoch " in output
    continued = hashlib.sha256(weights.read_bytes()).hexdigest()

    project.run("dvc", "repro", "-f", "-s", "train@cnn")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == continued


def test_ctrl_c_stops_at_once_and_the_same_command_continues(root: Path, tmp_path: Path) -> None:
    project = make_project(root, tmp_path, {"epochs: 6,": "epochs: 150,"})
    started = project.start("dvc", "repro", "train@cnn")
    spools = project.folder / ".trainyard" / "train"
    wait_for(lambda: any(s.read_text().count('"epoch",') >= 3 for s in spools.glob("*/spool.jsonl")), 300, "three epochs")
    os.killpg(started.pid, signal.SIGINT)
    started.wait(timeout=100)
    said = (project.folder / "start.log").read_text()
    assert "cnn · train · ERROR: stopped; run the same command again to continue" in said
    # 130 is the stage's own; a shell that waits for it (dash does, bash does not) dies of the signal as well.
    assert "exited with 130" in said or "exited with -2" in said
    assert "Traceback" not in said

    assert "cnn · train · continues after epoch " in project.run("dvc", "repro", "train@cnn")


def test_a_full_disk_is_named_and_nothing_is_lost(root: Path, tmp_path: Path, disks: Disks) -> None:
    disk = disks.small(tmp_path / "disk", "40m")
    project = make_project(root, disk)
    project.run("dvc", "repro", "prepare@cnn")
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler = disk / "filler"
    filler.write_bytes(b"x" * max(0, free - 40_000))
    output = project.run("dvc", "repro", "train@cnn", code=None)
    assert "disk is full" in output or "No space left" in output
    assert "Traceback" not in output
    assert not (disk / "models" / "cnn" / "model.safetensors").exists()
    filler.unlink()
    project.run("dvc", "repro", "train@cnn")
    assert (disk / "models" / "cnn" / "model.safetensors").exists()


def test_a_read_only_folder_is_named(root: Path, tmp_path: Path, disks: Disks) -> None:
    project = make_project(root, tmp_path)
    project.run("dvc", "repro", "prepare@cnn")
    models = project.folder / "models"
    models.mkdir()
    disks.make_read_only(disks.own(models))
    output = project.run("dvc", "repro", "train@cnn", code=None)
    assert "read-only" in output.lower()
    assert "Traceback" not in output
