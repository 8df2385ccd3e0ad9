"""A tracking server in every kind of trouble: nothing is lost, nothing is there twice, and training does not notice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.flaky import DEADLINE, Mode, Proxy, mlflow_server, wait_until
from tests.pipeline.conftest import TINY, Project
from tests.tracking.journals import assert_whole, curve, drive, opening, the_run, whole
from trainyard.data.packed import read_card
from trainyard.recipe import Recipe
from trainyard.tracking import limits
from trainyard.tracking.journal import journals
from trainyard.tracking.poster import Poster
from trainyard.tracking.run import Tracking
from trainyard.tracking.sync import sync
from trainyard.training.cluster_config import TrackingConfig

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

GATED = """
import pathlib, runpy, sys, time
import trainyard.training.fit as module

fit = module.fit

def gated(*arguments, **named):
    while not pathlib.Path("gate").exists():
        time.sleep(0.05)
    return fit(*arguments, **named)

module.fit = gated
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a stage whose fit waits for the file `gate`."""


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


def test_sync_sends_to_a_server_what_waits_for_it(proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    values = opening(proxy.uri)
    name = whole(tmp_path, values).name
    assert list(sync(tmp_path, TrackingConfig(uri=proxy.uri))) == [f"sent: {name}"]
    assert_whole(client, values)


def test_a_slow_server_gets_everything(proxy: Proxy, client: MlflowClient, tmp_path: Path) -> None:
    values = opening(proxy.uri)
    whole(tmp_path, values)
    proxy.turn("slow")
    drive(Poster(tmp_path, proxy.uri))
    assert proxy.faults["slow"] > 10
    assert_whole(client, values)


def test_a_stage_whose_server_hangs_succeeds_and_the_next_one_sends_all(
    root: Path,
    tmp_path: Path,
    proxy: Proxy,
    client: MlflowClient,
    packed_digits: Path,
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Project(tmp_path)
    (tmp_path / "params.yaml").write_text(TINY.replace("  cnn:", "  hung:"))
    (tmp_path / "gated.py").write_text(GATED)
    project.environment |= {
        "PYTHONPATH": str(root / "src"),
        "MLFLOW_TRACKING_URI": proxy.uri,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    }
    proxy.turn("hang")
    stage = project.start("python", "gated.py", str(root / "pipeline/train.py"), "hung", str(packed_digits), "model", "report")
    try:
        # The training begins when it is certain that the server has not answered.
        wait_until(lambda: proxy.faults["hang"] or stage.poll() is not None, "a request without an answer")
        (tmp_path / "gate").touch()
        stage.wait()
    finally:
        if stage.poll() is None:
            os.killpg(stage.pid, signal.SIGKILL)
    said = (tmp_path / "start.log").read_text()
    assert stage.returncode == 0, said
    assert "hung · train · epoch 6/6" in said
    assert "or by: trainyard sync" in said
    assert "Traceback" not in said
    identity = json.loads((tmp_path / "model" / "run.json").read_text())
    assert identity["run_id"] is None
    assert client.search_experiments(filter_string="name = 'hung'") == []

    proxy.turn("pass")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    # How long a stage waits is not what is looked at here.
    monkeypatch.setattr(limits, "AWAY_SECONDS", DEADLINE)
    recipe = dataclasses.replace(make_recipe(), name="hung")
    with Tracking(tmp_path, TrackingConfig(system_metrics=False), recipe, "evaluate") as tracking:
        tracking.attach(tmp_path / "model" / "run.json", identity["fingerprint"], read_card(packed_digits))
        tracking.metrics({"test/accuracy": 0.5})
    run = the_run(client, identity["run_key"])
    assert run.info.status == "FINISHED"
    for key in ("train/loss", "val/loss", "val/accuracy"):
        assert [step for step, _ in curve(client, run.info.run_id, key)] == [0, 1, 2, 3, 4, 5]
    assert run.data.metrics["test/accuracy"] == 0.5
    assert journals(tmp_path) == []
