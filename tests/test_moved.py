from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trainyard.moved import follow_move


def database(path: Path, artifacts: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table experiments (name text, artifact_location text)")
        connection.execute("create table runs (artifact_uri text)")
        for name in ("cnn", "elsewhere"):
            connection.execute("insert into experiments values (?, ?)", (name, (artifacts / name).as_uri()))
        connection.execute("insert into experiments values ('Default', '/tmp/mlruns/0'), ('none', null)")
        connection.execute("insert into experiments values ('s3', 's3://b/mlartifacts/cnn')")
        connection.execute("insert into runs values (?)", ((artifacts / "cnn" / "01" / "artifacts").as_uri(),))
    connection.close()


def places(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        query = "select artifact_location from experiments union all select artifact_uri from runs"
        found = [place for (place,) in connection.execute(query)]
    connection.close()
    return found


def test_a_moved_project_finds_its_artifacts_where_they_are_now(tmp_path: Path) -> None:
    old, new = tmp_path / "old place" / "mlartifacts", tmp_path / "new"
    (new / "mlartifacts" / "cnn").mkdir(parents=True)
    database(new / "mlflow.db", old)
    line = follow_move(new)
    assert line is not None and "old%20place/mlartifacts; they are here now" in line
    found = places(new / "mlflow.db")
    assert (new / "mlartifacts" / "cnn").as_uri() in found
    assert (new / "mlartifacts" / "cnn" / "01" / "artifacts").as_uri() in found
    assert "s3://b/mlartifacts/cnn" in found
    assert follow_move(new) is None


def test_a_project_where_it_was_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts" / "cnn").mkdir(parents=True)
    database(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert follow_move(tmp_path) is None
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_artifacts_that_did_not_come_along_keep_their_place(tmp_path: Path) -> None:
    database(tmp_path / "mlflow.db", tmp_path / "chosen" / "mlartifacts")
    assert follow_move(tmp_path) is None


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but long enough to look at" * 9])
def test_no_database_or_a_damaged_one_is_for_mlflow_to_tell(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    assert follow_move(tmp_path) is None
