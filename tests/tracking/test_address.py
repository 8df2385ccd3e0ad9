"""Where runs are recorded, from what params.yaml and the environment say."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from trainyard.errors import InputError
from trainyard.params import Params, ParamsError
from trainyard.tracking.address import artifact_place, tracking_uri
from trainyard.training.cluster_config import TrackingConfig, uri_problem

ADDRESSES = [
    "http://127.0.0.1:5000",
    "https://mlflow.example/team",
    "http://[::1]:5000",
    "http://me:secret@host:5000",
    "sqlite:///runs.db",
    "sqlite:////srv/runs.db?timeout=60",
    "postgresql+psycopg2://me@host:5432/mlflow",
    "postgresql:///mlflow",
    "mysql+pymysql://host/mlflow",
    "databricks",
    "databricks://profile",
]
NO_ADDRESSES = [
    ("127.0.0.1:5000", "write http://127.0.0.1:5000"),
    ("mlflow.example:80/team", "write http://mlflow.example:80/team"),
    ("htp://127.0.0.1:5000", "MLflow knows no addresses with htp:; expected http://host:port"),
    ("http://", "names no host"),
    ("http://127.0.0.1:0", "no port"),
    ("http://127.0.0.1:99999", "port cannot be read"),
    ("http://127.0.0.1:five", "port cannot be read"),
    ("http://127.0.0.1:5000 ", "there is a blank in it"),
    ("./mlruns", "is a folder, in which MLflow keeps no new runs; write sqlite:///runs.db"),
    ("file:///srv/mlruns", "is a folder"),
    ("sqlite://runs.db", "three slashes"),
    ("sqlite:runs.db", "three slashes"),
    ("sqlite:///", "runs would end with the process"),
    ("sqlite:///:memory:", "runs would end with the process"),
    ("postgresql:mlflow", "lacks its //; expected postgresql://user@host:port/database"),
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_what_mlflow_takes_is_taken(uri: str) -> None:
    assert uri_problem(uri) == ""


@pytest.mark.parametrize(("uri", "said"), NO_ADDRESSES)
def test_an_address_that_can_hold_no_runs_is_refused_before_anything_waits_for_it(
    uri: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as refused:
        tracking_uri(tmp_path, TrackingConfig())
    assert str(refused.value).startswith(f"MLFLOW_TRACKING_URI: found {uri!r}: ")
    assert said in str(refused.value)
    (tmp_path / "params.yaml").write_text(f"tracking:\n  experiment: digits\n  uri: '{uri}'\n")
    with pytest.raises(ParamsError) as refused_there:
        Params(tmp_path / "params.yaml").read(TrackingConfig, "tracking")
    assert f"line 1: tracking: uri: found {uri!r}: " in str(refused_there.value)


def test_a_password_that_hides_the_port_is_not_shown() -> None:
    problem = uri_problem("http://me:cana/ry@host:5000")
    assert problem.startswith(
        "found 'http://host:5000': its host or its port cannot be read (a / in a password is written %2F)"
    )
    assert "cana" not in problem


def test_folders_are_taken_where_mlflow_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert uri_problem("file:///srv/mlruns") == uri_problem("mlruns") == ""


def test_a_file_named_without_its_folder_is_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(tmp_path, TrackingConfig()) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri(tmp_path, TrackingConfig(uri="sqlite:///db/runs.db")) == f"sqlite:///{tmp_path}/db/runs.db"
    assert tracking_uri(tmp_path, TrackingConfig(uri="sqlite:////srv/runs.db")) == "sqlite:////srv/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri(tmp_path, TrackingConfig(uri="http://host:5000")) == f"sqlite:///{tmp_path}/other.db"


@pytest.mark.parametrize(
    "experiment", ["../../up", "/Users/me", "..", "a/../../b", "x" * 500, "ü" * 300, " ", "a\nb", "a:b#c?d"]
)
def test_whatever_an_experiment_is_called_its_files_are_in_one_folder_of_the_project(experiment: str, tmp_path: Path) -> None:
    place = artifact_place(tmp_path, "sqlite:////srv/runs.db", experiment)
    assert place is not None
    folder = Path(unquote(urlsplit(place).path))
    assert folder.parent == tmp_path / "mlartifacts"
    assert len(folder.name.encode()) < 255
    folder.mkdir(parents=True)


def test_an_experiment_with_a_plain_name_has_a_folder_of_that_name(tmp_path: Path) -> None:
    place = artifact_place(tmp_path, "sqlite:////srv/runs.db", "cats and dogs-2.0")
    assert place == (tmp_path / "mlartifacts" / "cats and dogs-2.0").as_uri()
    assert artifact_place(tmp_path, "http://host:5000", "cats") is None
