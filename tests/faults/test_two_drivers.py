"""Two projects that train the same state in one storage at the same time."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.faults.test_interruption import wait_for
from tests.pipeline.conftest import Project, make_project

pytestmark = [pytest.mark.pipeline, pytest.mark.faults]
PATIENCE = 240.0
TRAIN = ("python", "pipeline/train.py", "cnn", "data/prepared/cnn", "models/cnn", "reports/cnn")


def clone(root: Path, folder: Path, storage: Path) -> Project:
    """Make a project whose checkpoints go to the storage, with its data prepared."""
    folder.mkdir()
    changes = {"workers: 0": f"workers: 0\n  storage: {storage}", "epochs: 6,": "epochs: 4000,"}
    project = make_project(root, folder, changes)
    project.environment["PYTHONPATH"] = "src"
    project.run("python", "pipeline/prepare.py", "cnn", "data/prepared/cnn")
    return project


def test_the_second_is_refused_while_the_first_trains_and_continues_what_a_killed_one_left(root: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    one, other = clone(root, tmp_path / "one", storage), clone(root, tmp_path / "other", storage)
    first = one.start(*TRAIN)
    wait_for(lambda: first.poll() is not None or list(storage.rglob("manifest.json")), PATIENCE, "a checkpoint")
    assert first.poll() is None, (one.folder / "start.log").read_text()
    said = other.run(*TRAIN, code=3)
    (place,) = (path for path in storage.iterdir() if path.name.startswith("cnn-"))
    assert f"cnn · train · ERROR: {place}: process {first.pid} on {socket.gethostname()} (in {one.folder}, since 2" in said
    assert "trains this very state there" in said
    assert first.poll() is None

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = json.loads((place / "run.json").read_text())["run_key"]
    second = other.start(*TRAIN)
    log = other.folder / "start.log"
    wait_for(lambda: second.poll() is not None or "continues after epoch" in log.read_text(), PATIENCE, "the second to go on")
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE) == 75, log.read_text()
    # It is the same run in MLflow, and the place is free again.
    assert json.loads((place / "run.json").read_text())["run_key"] == before
    assert not (place / "holder.json").exists()
