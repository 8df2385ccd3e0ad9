"""A sweep on a private Ray: killed, continued, and written back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.files_of_this_run import folder_of_this_run
from tests.pipeline.conftest import TRAINYARD, Project, make_project, rows
from tests.ray_head import running

pytestmark = [pytest.mark.pipeline, pytest.mark.cluster]
SWEEP = """\
sweep:
  cnn:
    over:
      train.learning_rate: {log: [1e-3, 1e-1]}
      model.widths: {choice: [[4, 8], [8, 16]]}
    trials: 4
    grace_epochs: 2
cluster:
"""
PATIENCE = 200.0


def trials(project: Project) -> list[dict[str, Any]]:
    paths = (project.folder / ".trainyard" / "studies" / "cnn" / "sweep").glob("*/trials/*/trial.json")
    return [json.loads(path.read_text()) for path in sorted(paths)]


def epochs_of(project: Project) -> int:
    """Return how many epochs all trials have on record."""
    return sum(len(trial["history"]) for trial in trials(project))


def stopped_once(project: Project, signum: int, reached: Callable[[list[dict[str, Any]]], bool]) -> int:
    """Start the sweep and send a signal to its driver once its trials are far enough, by itself; return the exit code."""
    before = epochs_of(project)
    started = project.start(*TRAINYARD, "sweep", "cnn")
    until = time.monotonic() + PATIENCE
    while epochs_of(project) == before or not reached(trials(project)):
        assert started.poll() is None and time.monotonic() < until, (project.folder / "start.log").read_text()
        time.sleep(0.05)
    os.kill(started.pid, signum)
    return started.wait(timeout=PATIENCE)


def under_way(found: list[dict[str, Any]]) -> bool:
    return any(trial["state"] == "running" and len(trial["history"]) > 1 for trial in found)


def make_swept(root: Path, folder: Path, epochs: int = 8) -> Project:
    # The recipe as it is learns too slowly, so that another trial is the best.
    slow = {"5e-3, schedule": "1e-3, schedule"}
    project = make_project(root, folder, {**slow, "epochs: 6": f"epochs: {epochs}", "cluster:\n": SWEEP})
    project.environment["PYTHONPATH"] = "src"
    project.run("dvc", "repro", "prepare@cnn")
    return project


@pytest.fixture(scope="module")
def swept(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose sweep was killed once, and then came to its end."""
    project = make_swept(root, tmp_path_factory.mktemp("swept"))
    # Of a short name, for the sockets in it.
    project.environment["TMPDIR"] = str(folder_of_this_run("s"))
    project.killed = stopped_once(project, signal.SIGKILL, under_way)  # type: ignore[attr-defined]
    project.before = trials(project)  # type: ignore[attr-defined]
    project.output = project.run(*TRAINYARD, "sweep", "cnn")  # type: ignore[attr-defined]
    return project


def test_a_killed_sweep_continues_with_the_trials_that_it_had(swept: Project) -> None:
    before, after = swept.before, trials(swept)  # type: ignore[attr-defined]
    assert swept.killed == -signal.SIGKILL  # type: ignore[attr-defined]
    assert [trial["number"] for trial in after] == [0, 1, 2, 3]
    assert len({json.dumps(trial["values"]) for trial in after}) == 4
    assert after[0]["values"] == {"train.learning_rate": 1e-3, "model.widths": [8, 16]}
    for old, new in zip(before, after, strict=False):
        assert new["values"] == old["values"]
        # What was on record stays, and only what was under way was begun again.
        assert new["history"][: len(old["history"])] == old["history"]
        assert new["attempts"] == (2 if old["state"] == "running" else 1)
    assert all(trial["state"] in ("finished", "stopped") for trial in after)
    assert "continues after epoch" in swept.output  # type: ignore[attr-defined]
    # torch keeps there what it compiles, for the next time.
    left = [path.name for path in Path(swept.environment["TMPDIR"]).iterdir() if not path.name.startswith("torchinductor")]
    assert left == []


def test_trials_are_runs_below_one_with_each_epoch_once(swept: Project) -> None:
    (parent,) = rows(swept, "select run_uuid from tags where key = 'trainyard.study' and value = 'sweep'")
    children = rows(swept, f"select run_uuid from tags where key = 'mlflow.parentRunId' and value = '{parent[0]}'")
    assert len(children) == 4
    assert rows(swept, "select distinct status from runs") == [("FINISHED",)]
    counted = "select count(*), count(distinct run_uuid || step) from metrics where key = 'val/accuracy'"
    (found,) = rows(swept, counted)
    assert found[0] == found[1] == sum(len(trial["history"]) for trial in trials(swept))
    assert rows(swept, "select count(*) from metrics where key like 'test/%'") == [(0,)]
    artifacts = [path.name for path in (swept.folder / "mlartifacts").rglob("sweep/*")]
    assert {"sweep.json", "trials.csv", "slices.png", "importance.png"} <= set(artifacts)


def test_the_best_trial_is_the_one_that_validation_likes_best_and_is_shown_as_a_diff(swept: Project) -> None:
    found = json.loads((swept.folder / "reports" / "cnn" / "sweep" / "sweep.json").read_text())
    finished = {trial["number"]: trial for trial in found["trials"] if trial["state"] == "finished"}
    assert found["best"]["score"] == max(trial["score"] for trial in finished.values())
    assert found["best"]["values"] == finished[found["best"]["trial"]]["values"]
    assert "test/" not in json.dumps(found)
    before = (swept.folder / "params.yaml").read_text()
    # Nothing is trained again, and nothing is written without being asked for.
    shown = swept.run(*TRAINYARD, "sweep", "cnn")
    assert "all 4 trials were done before" in shown and (swept.folder / "params.yaml").read_text() == before
    applied = swept.run(*TRAINYARD, "sweep", "cnn", "--apply")
    after = (swept.folder / "params.yaml").read_text()
    assert found["best"]["trial"] != 0
    assert any(line.startswith("+    train: {epochs: 8") for line in applied.splitlines())
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert 1 <= len(changed) <= 2
    swept.run(*TRAINYARD, "check", "cnn")


@pytest.mark.long
def test_ctrl_c_leaves_a_sweep_that_continues_in_the_midst_of_an_epoch(root: Path, tmp_path: Path) -> None:
    project = make_swept(root, tmp_path, epochs=200)
    assert stopped_once(project, signal.SIGINT, under_way) == 130
    assert "run the same command again to continue" in (tmp_path / "start.log").read_text()
    left = trials(project)
    assert left and all(trial["state"] == "running" for trial in left)
    places = (tmp_path / ".trainyard" / "studies").rglob("manifest.json")
    facts = [json.loads(path.read_text()) for path in places]
    # They saved where they were.
    assert any(not fact["ended"] for fact in facts)
    assert rows(project, "select distinct status from runs where status != 'KILLED'") == []
    assert stopped_once(project, signal.SIGTERM, under_way) == 75
    assert [trial["values"] for trial in trials(project)][: len(left)] == [trial["values"] for trial in left]


@pytest.mark.long
def test_a_sweep_that_is_killed_three_times_has_as_many_trials_as_were_asked_for(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["python", str(root / "benchmarks" / "sweep.py"), "--folder", str(tmp_path / "project"), "--kills", "3"],
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 trials with 12 different values, 12 runs in MLflow" in done.stdout


@pytest.mark.long
def test_the_best_trial_becomes_an_experiment_of_dvc(swept: Project) -> None:
    swept.run("git", "checkout", "params.yaml")  # as it was before the best trial was written into it
    swept.run("git", "add", "dvc.lock")
    swept.run("git", "commit", "-q", "-m", "data prepared")
    swept.run(*TRAINYARD, "sweep", "cnn", "--experiment", "best-of-sweep")
    shown = json.loads(swept.run("dvc", "exp", "show", "--json"))
    assert "best-of-sweep" in json.dumps(shown)


@pytest.mark.long
def test_a_sweep_on_a_given_cluster_shares_its_storage_with_earlier_ones_and_survives_a_trial_too_large(
    root: Path, tmp_path: Path, home: Path
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    (tmp_path / "project").mkdir()
    project = make_swept(root, tmp_path / "project", epochs=3)
    project.change("grace_epochs: 2", "scheduler: none\n    searcher: random\n    seed: 0")
    project.change("cluster:\n", f"cluster:\n  storage: {storage}\n")
    with running(home) as cluster:
        project.environment |= {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": f"127.0.0.1:{cluster.address.rpartition(':')[2]}"}
        project.run(*TRAINYARD, "sweep", "cnn")
        before = trials(project)
        assert [trial["state"] for trial in before] == ["finished"] * 4
        assert [path.name for path in storage.iterdir() if "sweep" in path.name] == []
        # Other values under the same numbers, and under the name of the same sweep.
        project.change("seed: 0", "seed: 7")
        project.run(*TRAINYARD, "sweep", "cnn", "--again")
        after = trials(project)
        assert after[0]["history"][-1]["val/loss"] == before[0]["history"][-1]["val/loss"]
        for old, new in zip(before[1:], after[1:], strict=True):
            assert old["values"] != new["values"]
            assert old["history"][-1]["val/loss"] != new["history"][-1]["val/loss"]
        project.change("[[4, 8], [8, 16]]", "[[400000, 400000], [8, 16]]")
        output = project.run(*TRAINYARD, "sweep", "cnn")
        failed = [trial for trial in trials(project) if trial["state"] == "failed"]
        assert failed and all("can't allocate memory" in trial["reason"] for trial in failed) and "cannot be trained" in output
        project.change("workers: 0", "workers: 0\n  cpus_per_worker: 64")
        refused = project.run(*TRAINYARD, "sweep", "cnn", "--again", code=2)
        assert "a trial takes 64 processors, and no node of the cluster has them" in refused


@pytest.fixture
def home() -> Path:
    """The home of a cluster's user, of a short name, for the sockets in it."""
    return folder_of_this_run("h")
