"""A training of two workers that is told to end, in each of the ways in which a person or a machine says it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.test_interruption import processes_of
from tests.pipeline.conftest import Project, make_project
from trainyard.training.hardware import processors

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(processors() < 2, reason="needs two processors"),
]
PATIENCE = 240.0
TEMPORARY = Path(tempfile.gettempdir())
OURS = ("ty-", "trainyard-ray-", "plasma", "ray")
"""What the names of Ray's and our own temporary folders and shared segments begin with."""
TRAIN = ("python", "pipeline/train.py", "cnn", "data/prepared/cnn", "models/cnn", "reports/cnn")
LONG = {"workers: 0": "workers: 2\n  stop_seconds: 120", "epochs: 6,": "epochs: 4000,"}


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.05)


def prepared(root: Path, folder: Path, params: dict[str, str]) -> Project:
    project = make_project(root, folder, params)
    project.environment.update(TRAINYARD_TEST=str(project.folder), PYTHONPATH="src")
    project.run("python", "pipeline/prepare.py", "cnn", "data/prepared/cnn")
    return project


def steps_kept(project: Project) -> int:
    """Return the steps of the newest checkpoint, or 0."""
    found = (project.folder / ".trainyard" / "train").glob("*/checkpoints/*/manifest.json")
    return max((json.loads(path.read_text())["step"] for path in found), default=0)


def records(project: Project) -> int:
    found = (project.folder / ".trainyard" / "train").glob("*/spool.jsonl")
    return sum(path.read_text().count("\n") for path in found)


def started(project: Project) -> subprocess.Popen[bytes]:
    """Start the stage, and wait until its workers train."""
    before = records(project)
    process = project.start(*TRAIN)
    wait_for(lambda: records(project) > before or process.poll() is not None, "the first record")
    assert process.poll() is None, (project.folder / "start.log").read_text()
    return process


def ended(project: Project, process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> str:
    """Wait for the end of the stage and of all that it started; return what it said."""
    process.wait(seconds)
    wait_for(lambda: not processes_of(project), "the end of every process of the training")
    said = (project.folder / "start.log").read_text()
    assert "Traceback" not in said
    return said


def leftovers() -> set[str]:
    """Return what trainings and Ray leave in shared memory and in temporary folders while they run."""
    return {str(path) for place in (Path("/dev/shm"), TEMPORARY) for path in place.iterdir() if path.name.startswith(OURS)}


def weights(project: Project) -> str:
    return hashlib.sha256((project.folder / "models" / "cnn" / "model.safetensors").read_bytes()).hexdigest()


def worker(project: Project) -> psutil.Process:
    """Return the process of one worker."""
    found = [process for process in processes_of(project) if "RayTrainWorker" in " ".join(process.cmdline())]
    assert found, [process.cmdline() for process in processes_of(project)]
    return found[-1]


def test_ctrl_c_saves_within_the_epoch_and_the_same_command_continues(root: Path, tmp_path: Path) -> None:
    project = prepared(root, tmp_path, LONG)
    process = started(project)
    before = steps_kept(project)
    os.killpg(process.pid, signal.SIGINT)
    said = ended(project, process)
    assert process.returncode == 130
    assert "cnn · train · stops at the next step and saves; Ctrl-C again stops at once" in said
    assert "cnn · train · ERROR: stopped; run the same command again to continue" in said
    kept = steps_kept(project)
    assert kept > before

    process = started(project)
    process.send_signal(signal.SIGTERM)
    ended(project, process)
    assert process.returncode == 75
    assert steps_kept(project) > kept


@pytest.mark.long
def test_sigterm_to_a_worker_saves_and_ends_the_training_to_be_continued(root: Path, tmp_path: Path) -> None:
    project = prepared(root, tmp_path, LONG)
    process = started(project)
    before = steps_kept(project)
    victim = worker(project)
    victim.send_signal(signal.SIGTERM)
    said = ended(project, process)
    assert process.returncode == 75
    assert f"(pid {victim.pid} on " in said and "was told to end" in said
    assert steps_kept(project) > before


@pytest.mark.long
@pytest.mark.parametrize("times", [2, 3])
def test_ctrl_c_again_stops_at_once_and_loses_nothing_that_was_kept(root: Path, tmp_path: Path, times: int) -> None:
    project = prepared(root, tmp_path, LONG)
    process = started(project)
    wait_for(lambda: steps_kept(project), "a checkpoint")
    before = steps_kept(project)
    for _ in range(times):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
    ended(project, process)
    assert process.returncode == 130
    assert steps_kept(project) >= before


@pytest.mark.long
def test_a_killed_driver_leaves_nothing_and_the_end_is_bit_identical(root: Path, tmp_path: Path) -> None:
    project = prepared(root, tmp_path, {**LONG, "epochs: 6,": "epochs: 60,"})
    before = leftovers()
    process = started(project)
    wait_for(lambda: steps_kept(project), "a checkpoint")
    process.kill()
    ended(project, process)
    project.run(*TRAIN)
    assert leftovers() - before == set(), "the next launch takes away what a killed one left"
    continued = weights(project)

    project.run(*TRAIN)
    assert weights(project) == continued


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("part", "most"), [("raylet", 3), pytest.param("gcs_server", 1, marks=pytest.mark.long)])
def test_a_private_ray_that_is_killed_is_started_again_and_the_end_is_bit_identical(
    root: Path, tmp_path: Path, part: str, most: int
) -> None:
    changes = {"workers: 0": f"workers: 2\n  max_restarts: {most}", "epochs: 6,": "epochs: 60,"}
    project = prepared(root, tmp_path, changes)
    process = started(project)
    wait_for(lambda: steps_kept(project), "a checkpoint")
    victim = next(each for each in processes_of(project) if each.name() == part)
    folder = re.search(r"/\S+?/ty-\w+", " ".join(victim.cmdline()))
    assert folder is not None
    victim.kill()
    said = ended(project, process, 3 * PATIENCE)
    assert process.returncode == 0, said
    assert f"cnn · train · the private Ray's {part} (pid {victim.pid}) was ended by SIGKILL; begins again by itself" in said
    assert "cnn · train · continues after epoch " in said
    assert not Path(folder[0]).exists()
    continued = weights(project)
    project.run(*TRAIN)
    assert weights(project) == continued


@pytest.mark.long
def test_a_private_ray_that_may_not_be_started_again_ends_the_training_to_be_continued(root: Path, tmp_path: Path) -> None:
    project = prepared(root, tmp_path, {**LONG, "workers: 0": "workers: 2\n  max_restarts: 0"})
    process = started(project)
    wait_for(lambda: steps_kept(project), "a checkpoint")
    next(each for each in processes_of(project) if each.name() == "raylet").kill()
    said = ended(project, process)
    assert process.returncode == 75
    assert "was ended by SIGKILL; run the same command again to continue from the newest checkpoint" in said
    kept = steps_kept(project)
    process = started(project)
    process.send_signal(signal.SIGTERM)
    ended(project, process)
    assert steps_kept(project) > kept
