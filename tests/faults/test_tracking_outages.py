"""A tracking server in every kind of trouble: nothing is lost, nothing is there twice, and training does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.flaky import Mode, Proxy, mlflow_server
from tests.tracking.journals import assert_whole, drive, opening, whole
from trainyard.tracking.poster import Poster

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture(scope="module")
def client(server: int) -> MlflowClient:
    """Past the proxy."""
    return MlflowClient(f"http://127.0.0.1:{server}")


@pytest.fixture
def proxy(server: int) -> Iterator[Proxy]:
    made = Proxy(server)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("mode", ["down", "hang", "drop", "500", "429"])
def test_what_is_not_answered_waits_and_arrives_once(mode: Mode, proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    values = opening(proxy.uri)
    journal = whole(tmp_path, values)
    proxy.turn(mode)
    poster = Poster(tmp_path, proxy.uri)
    assert not poster.work()
    assert journal.load_state().problem
    assert poster.waiting() == [journal.folder]
    proxy.turn("pass")
    drive(poster)
    assert_whole(client, values)
    assert not journal.folder.exists()


@pytest.mark.parametrize("mode", ["lost", "truncated", "half", "empty"])
def test_every_answer_may_be_lost_once(mode: Mode, proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    values = opening(proxy.uri)
    whole(tmp_path, values)
    seen: set[tuple[str, str]] = set()

    def first(method: str, path: str, number: int) -> bool:
        new = (method, path) not in seen
        seen.add((method, path))
        return new

    proxy.turn(mode, first)
    failed = drive(Poster(tmp_path, proxy.uri))
    assert proxy.faults[mode] == len(seen) > 6
    assert failed >= (1 if mode == "empty" else 6)
    assert any(path.endswith("runs/create") for _, path in seen)
    assert any(path.endswith("runs/log-batch") for _, path in seen)
    assert_whole(client, values)


def test_an_outage_may_begin_at_any_request(proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    whole(plain, opening(proxy.uri))
    drive(Poster(plain, proxy.uri))
    requests = len(proxy.asked)
    assert requests > 10
    for begin in range(requests):
        root = tmp_path / str(begin)
        root.mkdir()
        values = opening(proxy.uri)
        whole(root, values)
        proxy.asked.clear()
        before = proxy.faults["lost"]
        # Stored and not heard of, and nothing is heard of the next two either.
        proxy.turn("lost", lambda method, path, number, begin=begin: begin <= number < begin + 3)
        drive(Poster(root, proxy.uri))
        assert proxy.faults["lost"] > before
        assert_whole(client, values)


def test_a_slow_server_gets_everything(proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    values = opening(proxy.uri)
    whole(tmp_path, values)
    proxy.turn("slow")
    drive(Poster(tmp_path, proxy.uri))
    assert proxy.faults["slow"] > 10
    assert_whole(client, values)
