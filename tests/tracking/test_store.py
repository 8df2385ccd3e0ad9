"""What a store will not take, in part or at all."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.tracking.journals import begin, curve, drive, opening, the_run, whole
from trainyard.errors import ServiceError
from trainyard.tracking.journal import now
from trainyard.tracking.poster import Poster
from trainyard.tracking.schema import check_schema

MIB = 2**20


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without a place for files puts them into the current folder."""
    monkeypatch.chdir(tmp_path)


def test_numbers_that_are_none_are_stored(tmp_path: Path, uri: str, send: Callable[[], MlflowClient]) -> None:
    values = opening(uri)
    journal = begin(tmp_path, values)
    points = [("a", math.nan, 1, 0), ("b", math.inf, 1, 0), ("c", -math.inf, 1, 0), ("d", 1.0, 1, 0)]
    for _ in range(2):
        journal.append("metrics", {"points": points, "once": False})
    journal.append("end", {})
    journal.release()
    client = send()
    run_id = the_run(client, values["run_key"]).info.run_id
    stored = {key: client.get_metric_history(run_id, key) for key in "abcd"}
    assert [len(points) for points in stored.values()] == [1, 1, 1, 1]
    assert math.isnan(stored["a"][0].value)
    assert stored["b"][0].value > 1e308 > -1e308 > stored["c"][0].value


def test_a_bad_name_loses_itself_alone_and_is_told_of(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str], send: Callable[[], MlflowClient]
) -> None:
    values = opening(uri, params={"a" * 300: "too long a name", **{f"param_{number}": "1" for number in range(150)}})
    journal = begin(tmp_path, values)
    points = [("good", 1.0, 1, 0), ("bad\nname*", 2.0, 1, 0), ("fine", 3.0, 1, 0)]
    journal.append("metrics", {"points": points, "once": True})
    journal.append("artifact", {"file": "files/0/nothing.txt", "folder": "x"})
    journal.append("tags", {"after": "them"})
    journal.append("end", {})
    journal.release()
    run = the_run(send(), values["run_key"])
    assert run.data.metrics == {"good": 1.0, "fine": 3.0}
    assert len(run.data.params) == 150
    assert run.data.tags["after"] == "them"
    said = capsys.readouterr().out
    for refused in ("params: " + "a" * 100, "bad\\\\nname*", "nothing.txt"):
        assert refused in said


def test_ten_thousand_parameters_arrive_and_a_long_one_is_cut_aloud(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str], send: Callable[[], MlflowClient]
) -> None:
    params = {f"param_{number:05d}": str(number) for number in range(10_000)}
    values = opening(uri, params={**params, "long": "x" * 7000})
    whole(tmp_path, values)
    stored = the_run(send(), values["run_key"]).data.params
    assert {key: stored[key] for key in params} == params
    assert stored["long"] == "x" * 6000
    assert "param long: cut to 6000 of 7000 characters; recipe.json has it whole" in capsys.readouterr().out


def test_a_large_artifact_is_neither_copied_nor_lost(tmp_path: Path, uri: str, send: Callable[[], MlflowClient]) -> None:
    weights = tmp_path / "weights.bin"
    with weights.open("wb") as file:
        file.truncate(64 * MIB)
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    journal = begin(tmp_path, values)
    kept = journal.folder / journal.add_file(weights)
    assert kept.samefile(weights)
    journal.append("artifact", {"file": str(kept.relative_to(journal.folder)), "folder": "weights"})
    journal.append("end", {})
    journal.release()
    weights.unlink()
    send()
    (stored,) = (tmp_path / "mlartifacts").rglob("weights.bin")
    assert stored.stat().st_size == 64 * MIB


def test_tables_of_an_older_mlflow_are_refused_with_the_command(uri: str) -> None:
    check_schema(uri)
    change_version(uri, "451aebb31d03")
    with pytest.raises(ServiceError, match=r"version 451aebb31d03, .*; copy the file, then run: mlflow db upgrade sqlite:///"):
        check_schema(uri)


def test_tables_of_a_newer_mlflow_are_refused_with_the_command(uri: str) -> None:
    change_version(uri, "fedcba987654")
    with pytest.raises(ServiceError, match="a newer MLflow made them; install that one"):
        check_schema(uri)


def test_no_database_yet_is_no_problem(tmp_path: Path) -> None:
    check_schema(f"sqlite:///{tmp_path}/none.db")
    check_schema("http://127.0.0.1:9")


def change_version(uri: str, version: str) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        connection.execute("update alembic_version set version_num = ?", (version,))
    connection.close()


def test_an_attempt_that_is_told_of_late_does_not_undo_the_end_of_a_later_one(
    tmp_path: Path, uri: str, send: Callable[[], MlflowClient]
) -> None:
    values = opening(uri)
    killed = begin(tmp_path / "one machine", values)
    killed.release()
    later = now() + 60_000
    finished = begin(tmp_path, values)
    finished.append("status", {"status": "FINISHED"}, at=later)
    finished.append("end", {})
    finished.release()
    client = send()
    drive(Poster(tmp_path / "one machine", uri))
    run = the_run(client, values["run_key"])
    assert (run.info.status, run.info.end_time) == ("FINISHED", later)


def pump(poster: Poster) -> None:
    """Send what there is by now, of a stage that is still at work."""
    for _ in range(100):
        for pace in poster.paces.values():
            pace.not_before = 0.0
        if not poster.work():
            return
    raise AssertionError("there was always more to send")


def test_what_comes_after_a_run_was_deleted_is_left_out_and_said_once(tmp_path: Path, uri: str) -> None:
    values, client = opening(uri), MlflowClient(uri)
    journal, poster = begin(tmp_path, values), Poster(tmp_path, uri)
    poster.own = journal.folder
    pump(poster)
    run_id = the_run(client, values["run_key"]).info.run_id
    client.delete_run(run_id)
    for epoch in range(5):
        points = [(f"val/metric_{number}", 1.0, 1_000_000 + epoch, epoch) for number in range(50)]
        journal.append("metrics", {"points": points, "once": True})
        pump(poster)
    journal.append("status", {"status": "FINISHED"}, at=2_000_000)
    journal.append("end", {})
    pump(poster)
    (note,) = journal.load_state().notes
    assert note == f"what was still to come: run {run_id} was deleted; to have it back: mlflow runs restore --run-id {run_id}"
    assert journal.complete()
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"


def test_a_store_that_came_back_empty_is_told_all_of_the_run_again(tmp_path: Path, new_store: Path, uri: str) -> None:
    values = opening(uri, artifacts=(tmp_path / "mlartifacts").as_uri())
    journal, poster = begin(tmp_path, values), Poster(tmp_path, uri)
    poster.own = journal.folder
    journal.append("metrics", {"points": [("train/loss", 4.0, 1_000_000, 0)], "once": True})
    pump(poster)
    first = the_run(MlflowClient(uri), values["run_key"]).info.run_id
    with closing(sqlite3.connect(new_store)) as empty, closing(sqlite3.connect(tmp_path / "mlflow.db")) as there:
        empty.backup(there)
    assert MlflowClient(uri).search_experiments(filter_string="name = 'digits'") == []
    journal.append("metrics", {"points": [("train/loss", 3.0, 1_000_001, 1)], "once": True})
    pump(poster)
    problem = journal.load_state().problem
    assert problem == f"run {first} is not there any more; all that is known of it is told anew"
    journal.append("status", {"status": "FINISHED"}, at=2_000_000)
    journal.append("end", {})
    pump(poster)
    run = the_run(MlflowClient(uri), values["run_key"])
    assert curve(MlflowClient(uri), run.info.run_id, "train/loss") == [(0, 4.0), (1, 3.0)]
    assert (run.info.status, run.data.params) == ("FINISHED", values["params"])
    assert journal.load_state().notes == []
    assert journal.complete()


def test_a_deleted_experiment_is_named_with_the_command_that_brings_it_back(tmp_path: Path, uri: str) -> None:
    client, values = MlflowClient(uri), opening(uri)
    experiment = client.create_experiment("digits")
    client.delete_experiment(experiment)
    journal, poster = begin(tmp_path, values), Poster(tmp_path, uri)
    poster.own = journal.folder
    pump(poster)
    problem = journal.load_state().problem or ""
    assert problem == (
        f"experiment digits was deleted; to have it back: mlflow experiments restore --experiment-id {experiment}; "
        "or set tracking.experiment"
    )
    client.restore_experiment(experiment)
    pump(poster)
    assert the_run(client, values["run_key"]).info.experiment_id == experiment


def test_nothing_is_sent_behind_the_back_of_who_waits_for_it(
    tmp_path: Path, uri: str, send: Callable[[], MlflowClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow would then take all of it at once, and whoever ends now has lost it.
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    values = opening(uri)
    journal = begin(tmp_path, values)
    journal.append("metrics", {"points": [("a?", 1.0, 1, 0), ("b", 1.0, 1, 0)], "once": True})
    poster = Poster(tmp_path, uri)
    poster.own = journal.folder
    pump(poster)
    (note,) = journal.load_state().notes
    assert note.startswith("metrics: a?: ")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as stored:
        assert stored.execute("select key from metrics").fetchall() == [("b",)]
        assert stored.execute("select count(*) from params").fetchone() == (len(values["params"]),)
