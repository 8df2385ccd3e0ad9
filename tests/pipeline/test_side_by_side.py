"""`trainyard repro`: trainings of several recipes at a time on one private Ray, and what `dvc repro` makes of them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from benchmarks.killed_repro import digests, marked
from ruamel.yaml import YAML

from tests.pipeline.conftest import TRAINYARD, Project, make_project, rows

pytestmark = [pytest.mark.pipeline, pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1800)]
RECIPES = ("cnn", "unet", "lstm")
TRAININGS = tuple(f"train@{name}" for name in RECIPES)
REPRO = (*TRAINYARD, "repro", *TRAININGS, "--together", "2")
TIMED = ("run.json", "train.json", "history.csv")
"""Files that name the run, or hold seconds: no two trainings have the same ones."""
PATIENCE = 600.0


@pytest.fixture(scope="module")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose data are prepared, and whose trainings have a worker each."""
    project = make_project(root, tmp_path_factory.mktemp("prepared"), {"workers: 0": "workers: 1"})
    project.run("dvc", "repro", *(f"prepare@{name}" for name in RECIPES))
    return project


def copy(project: Project, folder: Path) -> Project:
    """Return another project of the same state, with a cache of its own."""
    copied = Project(shutil.copytree(project.folder, folder / "project", symlinks=True))
    copied.environment |= {"PYTHONPATH": "src", "TRAINYARD_TRIAL": f"side-{os.getpid()}-{time.monotonic_ns()}"}
    return copied


def made(project: Project) -> dict[str, str]:
    """Return the hashes of what the stages made, but for clocks and the names that MLflow gives its runs."""
    found = {name: value for recipe in RECIPES for name, value in digests(project.folder, recipe).items()}
    return {name: value for name, value in found.items() if "run.json" not in name}


def locked(project: Project) -> dict[str, list[str]]:
    """Return what dvc.lock says of each stage: its command and parameters, and path and hash of what it reads and makes."""
    stages = YAML(typ="safe", pure=True).load(project.folder / "dvc.lock")["stages"]
    return {
        name: [
            stage["cmd"],
            repr(stage.get("params")),
            *(
                f"{kind} {entry['path']} {'' if entry['path'].endswith(TIMED) else entry['md5']}"
                for kind in ("deps", "outs")
                for entry in stage[kind]
            ),
        ]
        for name, stage in stages.items()
    }


def nothing_left(project: Project) -> None:
    """Check that no process of a project is left, after as long as one that was stopped may take."""
    until = time.monotonic() + 30
    while (left := marked(project.environment["TRAINYARD_TRIAL"])) and time.monotonic() < until:
        time.sleep(0.1)
    assert [psutil.Process(pid).cmdline() for pid in left] == []


@pytest.fixture(scope="module")
def serial(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`."""
    project = copy(prepared, tmp_path_factory.mktemp("serial"))
    for training in TRAININGS:
        project.run("dvc", "repro", training)
    return project


def test_trainings_side_by_side_leave_the_files_of_a_serial_dvc_repro(
    prepared: Project, serial: Project, tmp_path: Path
) -> None:
    together = copy(prepared, tmp_path)
    output = together.run(*REPRO)
    assert "cnn, unet, lstm, 2 at a time" in output
    # They were under way at the same time.
    first, second = (output.index(f"{name} · train · epoch 1/") for name in ("cnn", "unet"))
    assert first < output.index("cnn · train · best val") and second < output.index("unet · train · best val")
    assert made(together) == made(serial) != {}
    assert locked(together) == locked(serial)
    # Nothing is left to do, for DVC neither.
    assert together.stages_run(together.run("dvc", "repro", *TRAININGS)) == []
    assert rows(together, "select status, count(*) from runs group by status") == [("FINISHED", 3)]
    nothing_left(together)


def test_ctrl_c_and_a_kill_leave_no_process_and_the_next_dvc_repro_goes_on_to_the_same_bits(
    prepared: Project, serial: Project, tmp_path: Path
) -> None:
    project = copy(prepared, tmp_path)
    log = project.folder / "start.log"
    for signum, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        started = project.start(*REPRO)
        until = time.monotonic() + PATIENCE
        while "train · epoch 1/" not in log.read_text() and "continues" not in log.read_text():
            assert started.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        os.kill(started.pid, signum)
        assert started.wait(timeout=PATIENCE) == code, log.read_text()
        nothing_left(project)
    for training in TRAININGS:
        project.run("dvc", "repro", training)
    assert made(project) == made(serial)
    assert locked(project) == locked(serial)


def test_a_recipe_that_fails_takes_no_other_with_it(prepared: Project, serial: Project, tmp_path: Path) -> None:
    project = copy(prepared, tmp_path)
    before, after = "optimizer: adamw, learning_rate: 5e-3}", "optimizer: sgd, learning_rate: 1e38}"
    project.change(f"batch_size: 32, {before}", f"batch_size: 32, {after}")
    output = project.run(*REPRO, code=2)
    assert "at epoch 1, step" in output
    assert "lstm · train · failed with exit code" in output
    assert project.run("dvc", "status", "train@cnn", "train@unet", "--json").strip() == "{}"
    ours, theirs = made(project), made(serial)
    assert {name: value for name, value in ours.items() if "/lstm/" not in name} == {
        name: value for name, value in theirs.items() if "/lstm/" not in name
    }
    assert not (project.folder / "models" / "lstm" / "model.safetensors").exists()
    nothing_left(project)
