"""`trainyard sync`, as a program."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.tracking.journals import assert_whole, opening, the_run, whole
from trainyard.tracking.journal import Journal, State, journals
from trainyard.tracking.sync import remedy

pytestmark = pytest.mark.faults
Sync = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sync(root: Path, tmp_path: Path) -> Sync:
    """Return a function that runs the command in a project."""
    (tmp_path / "params.yaml").write_text("recipes: {}\n")

    def run(uri: str = "", *options: str, largest_file: int = -1) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
        environment |= {"PYTHONPATH": str(root / "src"), **({"MLFLOW_TRACKING_URI": uri} if uri else {})}

        def limit() -> None:
            if largest_file >= 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.run(
            [sys.executable, "-m", "trainyard.cli", "sync", *options],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            preexec_fn=limit,
            timeout=300,
        )

    return run


def test_what_waits_is_sent_and_then_nothing_waits(tmp_path: Path, sync: Sync) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    name = whole(tmp_path, values).name
    done = sync()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"sent: {name}"]
    assert_whole(MlflowClient(uri), values)
    assert sync().stdout == "nothing waits: MLflow has been told everything\n"


def test_what_was_sent_whole_and_not_deleted_keeps_nothing_waiting(tmp_path: Path, sync: Sync) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    first = whole(tmp_path, values)
    # Kept beside the project while it is sent, and put back as if its sender had been killed before it deleted it.
    shutil.copytree(first.folder, tmp_path / "kept")
    assert sync().returncode == 0
    shutil.copytree(tmp_path / "kept", first.folder)
    first.save_state(State(sent=first.path.stat().st_size, run_id=the_run(MlflowClient(uri), values["run_key"]).info.run_id))
    second = Journal.create(tmp_path, "export", "digits", values)
    second.append("tags", {"later": "yes"})
    second.append("end", {})
    second.release()
    done = sync()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"sent: {first.name}", f"sent: {second.name}"]
    assert the_run(MlflowClient(uri), values["run_key"]).data.tags["later"] == "yes"
    assert journals(tmp_path) == []


def test_a_server_that_is_down_is_an_outside_service_and_nothing_is_lost(tmp_path: Path, sync: Sync) -> None:
    journal = whole(tmp_path, opening("http://127.0.0.1:9"))
    done = sync("http://me:canary@127.0.0.1:9")
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: MLflow at http://127.0.0.1:9: ")
    assert "start the server, then: trainyard sync. Nothing is lost" in done.stderr
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert journals(tmp_path) == [journal.folder]


def test_a_local_database_that_cannot_be_written_is_this_machines(tmp_path: Path, sync: Sync) -> None:
    whole(tmp_path, opening(f"sqlite:///{tmp_path}/mlflow.db"))
    before = set(tmp_path.iterdir())
    done = sync(largest_file=10_000)
    assert done.returncode == 3, done.stderr
    assert f"MLflow at sqlite:///{tmp_path}/mlflow.db: " in done.stderr
    assert "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) == before
    assert sync().returncode == 0


def test_tables_of_another_version_are_refused(tmp_path: Path, sync: Sync, uri: str) -> None:
    whole(tmp_path, opening(uri))
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
    connection.close()
    done = sync()
    assert done.returncode == 4
    assert f"mlflow db upgrade {uri}" in done.stderr
    assert len(journals(tmp_path)) == 1


@pytest.mark.long
def test_what_waits_for_a_server_that_is_no_more_is_sent_to_where_runs_go_now(tmp_path: Path, sync: Sync, uri: str) -> None:
    values = opening("http://127.0.0.1:9")
    name = whole(tmp_path, values).name
    left = sync()
    assert left.returncode == 4
    assert f"Runs go to {uri} now; to send this there, too: trainyard sync --here" in left.stderr
    done = sync("", "--here")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"was for http://127.0.0.1:9: {name}", f"sent: {name}"]
    run = assert_whole(MlflowClient(uri), values)
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts" / "digits").as_uri())


@pytest.mark.long
def test_a_file_that_is_no_database_is_not_said_to_lack_room(tmp_path: Path, sync: Sync) -> None:
    journal = whole(tmp_path, opening(f"sqlite:///{tmp_path}/mlflow.db"))
    (tmp_path / "mlflow.db").write_text("a text that a program left under this name\n" * 100)
    done = sync()
    assert done.returncode == 3
    assert "file is not a database; bring back a copy of the file, or move it aside and begin another one" in done.stderr
    (tmp_path / "mlflow.db").rename(tmp_path / "aside")
    assert sync().stdout == f"sent: {journal.name}\n"


def test_an_address_that_can_hold_no_runs_is_the_users_mistake(tmp_path: Path, sync: Sync) -> None:
    whole(tmp_path, opening("http://127.0.0.1:9"))
    done = sync("127.0.0.1:5000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ERROR: MLFLOW_TRACKING_URI: found '127.0.0.1:5000': it does not say how to talk to that host; "
        "write http://127.0.0.1:5000\n"
    )


SERVER = "http://host:5000"
FAILED = "API request to endpoint /api/2.0/mlflow/experiments/get-by-name failed with error code"


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("Max retries exceeded with url: /api", "start the server, then: trainyard sync. Nothing is lost"),
        (f"{FAILED} 401 != 200. Response body: 'no'", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of"),
        (f"{FAILED} 403 != 200. Response body: 'no'", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of"),
        (f"{FAILED} 404 != 200. Response body: 'no'", "see whether an MLflow server is there, or name another address, then:"),
        ("successful but the response body was not in a valid JSON format", "see whether an MLflow server is there"),
        ("No module named 'psycopg2'", "install it, then: trainyard sync"),
        ("experiment a was deleted; to have it back: mlflow experiments restore --experiment-id 1", "then: trainyard sync"),
    ],
)
def test_what_to_do_fits_what_the_server_says(said: str, todo: str) -> None:
    assert remedy(f"{SERVER}: {said}", SERVER).startswith(todo)
    assert "--here" not in remedy(f"{SERVER}: {said}", SERVER)
