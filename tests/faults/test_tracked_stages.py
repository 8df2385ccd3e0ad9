"""Stages whose tracking fails, or that are killed: what they leave is sent later, and true."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.disks import Disks
from tests.faults.flaky import DEADLINE, wait_until
from tests.pipeline.conftest import TINY, Project
from tests.tracking.journals import assert_whole, curve, drive, opening, the_run, whole
from trainyard.data.packed import read_card
from trainyard.recipe import Recipe
from trainyard.tracking import limits
from trainyard.tracking.poster import Poster
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLED = """
import os, signal, sys, time
from pathlib import Path
from trainyard.data.packed import read_card
from trainyard.recipe import read_recipe
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.spool import Reader, Record, append

def record(epoch):
    values = {"train/loss": 4.0 - epoch}
    append(spool, Record(kind="epoch", epoch=epoch, step=epoch, seconds=1.0, left_seconds=1.0, values=values))

spool = Path("spool.jsonl").resolve()
recipe = read_recipe(Path("params.yaml"), "cnn")
tracking = Tracking(Path.cwd(), TrackingConfig(), recipe, "train")
tracking.start(Path("run.json"), "cnn-0", read_card(Path(sys.argv[1])), {})
with tracking.running(spool):
    record(0)
    tracking.record(Reader(spool))
    while not tracking._state().sent:
        time.sleep(0.05)
    record(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_killed_training_is_said_to_be_killed_by_the_next_command(root: Path, tmp_path: Path, packed_digits: Path) -> None:
    project = Project(tmp_path)
    project.environment |= {"PYTHONPATH": str(root / "src"), "TRAINYARD_TEST": str(tmp_path)}
    (tmp_path / "params.yaml").write_text(TINY)
    (tmp_path / "killed.py").write_text(KILLED)
    stage = project.start("python", "killed.py", str(packed_digits))
    assert stage.wait(timeout=270) == -signal.SIGKILL, (tmp_path / "start.log").read_text()
    wait_until(lambda: not processes(str(tmp_path)), "the end of the process that sends")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    key = json.loads((tmp_path / "run.json").read_text())["run_key"]

    assert project.run("python", "-m", "trainyard.cli", "sync").startswith("sent: ")
    run = the_run(client, key)
    assert run.info.status == "KILLED"
    assert run.data.tags["exit.state"] == "killed"
    # What the workers recorded after the driver's last look is not lost either.
    assert curve(client, run.info.run_id, "train/loss") == [(0, 4.0), (1, 3.0)]


def processes(mark: str) -> list[int]:
    """Return the processes that a test started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TRAINYARD_TEST") == mark and process.status() != "zombie":
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_sender_that_is_killed_is_replaced(
    tmp_path: Path, make_recipe: Callable[..., Recipe], packed_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AWAY_SECONDS", DEADLINE)
    with Tracking(tmp_path, TrackingConfig(system_metrics=False), make_recipe(), "train") as tracking:
        tracking.start(tmp_path / "run.json", "f-1", read_card(packed_digits), {})
        with tracking.running(tmp_path / "spool.jsonl"):
            first = tracking.sender._process
            assert first is not None
            first.kill()
            first.wait()
            tracking.metrics({"a": 1.0})
            tracking.watch()
            assert tracking.sender._process is not first
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = the_run(client, tracking.key)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"a": 1.0})
    assert json.loads(tracking.identity())["run_id"] == run.info.run_id


def test_a_read_only_store_gets_all_when_it_can_be_written_again(tmp_path: Path, disks: Disks) -> None:
    store, root = tmp_path / "store", tmp_path / "project"
    store.mkdir()
    root.mkdir()
    uri = f"sqlite:///{store}/mlflow.db"
    MlflowClient(uri)
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    disks.make_read_only(disks.own(store))
    journal = whole(root, values)
    poster = Poster(root, uri)
    assert not poster.work()
    assert "sqlite3.OperationalError" in str(journal.load_state().problem)
    disks.make_writable(store)
    drive(poster)
    assert_whole(MlflowClient(uri), values)


def test_a_store_without_room_gets_all_when_there_is_some(tmp_path: Path, disks: Disks) -> None:
    store, root = disks.small(tmp_path / "store", "8m"), tmp_path / "project"
    root.mkdir()
    uri = f"sqlite:///{store}/mlflow.db"
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    MlflowClient(uri)
    filler = store / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    journal = whole(root, values)
    poster = Poster(root, uri)
    while poster.work():
        pass
    assert "full" in str(journal.load_state().problem)
    filler.unlink()
    drive(poster)
    assert_whole(MlflowClient(uri), values)


@pytest.mark.long
def test_a_database_that_is_locked_for_longer_than_it_waits_gets_all(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri)
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    journal = whole(tmp_path, values)
    poster = Poster(tmp_path, uri)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("begin exclusive")
        assert not poster.work()
        assert "locked" in str(journal.load_state().problem)
        other.rollback()
    drive(poster)
    assert_whole(MlflowClient(uri), values)


@pytest.mark.parametrize("runs", [2, pytest.param(8, marks=pytest.mark.long)])
def test_runs_that_begin_at_once_make_one_database_and_one_experiment(tmp_path: Path, runs: int) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    all_values = [opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri()) for _ in range(runs)]
    senders = []
    for number, values in enumerate(all_values):
        root = tmp_path / str(number)
        root.mkdir()
        whole(root, values)
        senders.append(
            subprocess.Popen(
                [sys.executable, "-m", "trainyard.tracking.poster"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        ends = []
        for number, sender in enumerate(senders):
            assert sender.stdin
            sender.stdin.write(json.dumps({"root": str(tmp_path / str(number)), "uri": uri, "sync": True}) + "\n")
            sender.stdin.flush()
        for sender in senders:
            assert sender.stdout and sender.stderr
            ends.append((sender.stdout.read(), sender.stderr.read(), sender.wait()))
        assert [code for *_, code in ends] == [0] * runs, ends
    finally:
        for sender in senders:
            sender.kill()
            sender.communicate()
    client = MlflowClient(uri)
    for values in all_values:
        assert_whole(client, values)
    assert [experiment.name for experiment in client.search_experiments()].count("digits") == 1
