from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.test_listeners import web_server
from tests.safety.heads import TOKEN, head
from trainyard.doctor import services
from trainyard.doctor.services import examine_cluster, examine_remotes, examine_tokens, examine_tracking


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without tokens and passwords, and with a home of its own."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "is_loopback", lambda host: False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody can listen on meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def test_a_tracking_server_that_does_not_answer_is_a_problem_of_a_service(closed_port: int) -> None:
    found = examine_tracking(f"http://ann:hunter22@127.0.0.1:{closed_port}")[0]
    assert (found.status, found.code) == ("problem", 4)
    assert "hunter22" not in found.found


def test_a_tracking_server_on_this_machine_needs_no_password() -> None:
    with web_server(200) as port:
        assert examine_tracking(f"http://127.0.0.1:{port}")[0].status == "ok"


@pytest.mark.usefixtures("on_a_network")
def test_a_tracking_server_on_a_network_without_a_password_is_a_problem_of_security() -> None:
    with web_server(200) as port:
        found = examine_tracking(f"http://127.0.0.1:{port}")[0]
    assert (found.status, found.code) == ("problem", 5) and "no password" in found.found


def test_a_refused_user_is_told_which_variables_to_set() -> None:
    with web_server(401) as port:
        found = examine_tracking(f"http://127.0.0.1:{port}")[0]
    assert (found.status, found.code) == ("problem", 4) and "MLFLOW_TRACKING_PASSWORD" in found.fix


def test_a_database_is_opened_and_a_broken_one_told(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    assert "made by the first training" in examine_tracking(f"sqlite:///{path}")[0].found
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
        database.execute("INSERT INTO runs VALUES ('a')")
    database.close()
    assert examine_tracking(f"sqlite:///{path}")[0].found == f"{path}: 1 runs"
    path.write_bytes(b"no database" * 100)
    assert examine_tracking(f"sqlite:///{path}")[0].status == "problem"


def test_remotes_are_looked_for(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        f"['remote \"here\"']\n    url = ../there\n['remote \"gone\"']\n    url = {tmp_path}/gone\n"
        f"['remote \"far\"']\n    url = s3://bucket/x\n    endpointurl = http://127.0.0.1:{closed_port}\n"
    )
    here, gone, far = examine_remotes(tmp_path)
    assert here.status == "ok"
    assert (gone.status, gone.code) == ("problem", 4) and "no such folder" in gone.found
    assert (far.status, far.code) == ("problem", 4) and f"127.0.0.1:{closed_port} does not answer" in far.found


def test_a_token_that_others_can_read_is_a_problem_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "home" / ".ray" / "auth_token"
    path.parent.mkdir(parents=True)
    path.write_text(TOKEN)
    path.chmod(0o644)
    found = examine_tokens()[0]
    assert (found.status, found.code) == ("problem", 5) and f"chmod 600 {path}" in found.fix
    assert TOKEN not in str(found) and path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o600)
    assert examine_tokens()[0].status == "ok"


@pytest.mark.usefixtures("on_a_network")
def test_a_cluster_that_lets_anybody_in_is_a_problem_unless_that_is_accepted() -> None:
    with head(None) as address:
        assert [(line.status, line.code) for line in examine_cluster(address, insecure=False)] == [("problem", 5)]
        assert [line.status for line in examine_cluster(address, insecure=True)] == ["warning"]


def test_a_cluster_with_a_token_takes_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with head(TOKEN) as address:
        assert [(line.status, line.code) for line in examine_cluster(address, insecure=False)] == [("problem", 4)]
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f00d" * 16)
        refused = examine_cluster(address, insecure=False)[0]
        assert "refuses this one" in refused.found and "f00d" not in str(refused)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        assert [line.status for line in examine_cluster(address, insecure=False)] == ["ok", "warning"]
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        assert [line.status for line in examine_cluster(address, insecure=False)] == ["ok"]


def test_a_cluster_that_does_not_answer_is_a_problem_of_a_service(closed_port: int) -> None:
    assert [(line.status, line.code) for line in examine_cluster(f"127.0.0.1:{closed_port}", False)] == [("problem", 4)]


def test_another_version_of_ray_is_a_problem_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "version", lambda name: "9.9.9")
    with head(None) as address:
        found = examine_cluster(address, insecure=False)[-1]
    assert found.code == 3 and "has Ray 2.60.0, here is 9.9.9" in found.found
