from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.data.packed import read_card
from trainyard.errors import ServiceError
from trainyard.recipe import Recipe
from trainyard.tracking import Forwarder, Tracking, flatten
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.spool import Reader, Record, append

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def tracking(tmp_path: Path, make_recipe: MakeRecipe) -> Tracking:
    return Tracking(tmp_path, TrackingConfig(system_metrics=False), make_recipe())


def epoch(number: int, loss: float) -> Record:
    return Record(kind="epoch", epoch=number, step=number * 3 + 3, seconds=1.0, left_seconds=1.0, values={"train/loss": loss})


def test_a_run_holds_parameters_data_and_tags(tracking: Tracking, packed_digits: Path) -> None:
    card = read_card(packed_digits)
    run = tracking.client.get_run(tracking.start("f-1", card, {"mlflow.source.git.commit": "abc"}))
    assert run.data.params["train.learning_rate"] == "0.003"
    assert run.data.params["model.widths"] == "[8, 16]"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert card.sha256 in run.inputs.dataset_inputs[0].dataset.source


def test_a_run_is_found_by_id_and_by_fingerprint_and_nothing_else(tracking: Tracking, packed_digits: Path) -> None:
    run_id = tracking.start("f-1", read_card(packed_digits), {})
    assert tracking.find(run_id, "f-1") == run_id
    assert tracking.find("0" * 32, "f-1") == run_id
    assert tracking.find(None, "f-2") is None


def test_records_arrive_once_also_after_a_restart(tracking: Tracking, packed_digits: Path, tmp_path: Path) -> None:
    run_id = tracking.start("f-1", read_card(packed_digits), {})
    spool, sent = tmp_path / "spool.jsonl", tmp_path / "sent.json"
    append(spool, epoch(0, 3.0))
    append(spool, epoch(1, 2.0))
    first = Forwarder(tracking, run_id, Reader(spool), sent)
    assert len(first.forward()) == 2
    append(spool, epoch(1, 2.0))
    append(spool, epoch(2, 1.0))
    with spool.open("a") as file:
        file.write('{"kind": "epoch", "torn')
    Forwarder(tracking, run_id, Reader(spool), sent).forward()
    history = tracking.client.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_the_status_follows_how_training_ends(tracking: Tracking, packed_digits: Path) -> None:
    run_id = tracking.start("f-1", read_card(packed_digits), {})
    with pytest.raises(ZeroDivisionError), tracking.running(run_id):
        assert tracking.client.get_run(run_id).info.status == "RUNNING"
        raise ZeroDivisionError
    assert tracking.client.get_run(run_id).info.status == "FAILED"
    with tracking.running(run_id):
        pass
    assert tracking.client.get_run(run_id).info.status == "FINISHED"


def test_artifacts_lie_beside_the_project(tracking: Tracking, packed_digits: Path, tmp_path: Path) -> None:
    run_id = tracking.start("f-1", read_card(packed_digits), {})
    tracking.artifacts(run_id, [packed_digits / "card.json"], "data")
    assert list((tmp_path / "mlartifacts").rglob("card.json"))


def test_a_server_that_is_down_is_named_in_seconds(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(ServiceError, match=f"MLflow at http://127.0.0.1:{port}: ") as caught:
        Tracking(tmp_path, TrackingConfig(), make_recipe())
    assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 30


@pytest.mark.faults
def test_a_store_that_cannot_be_made_is_named_and_leaves_nothing(tmp_path: Path, out_of_space: Callable[[str], str]) -> None:
    said = out_of_space(
        "import pathlib; from types import SimpleNamespace; from trainyard.tracking import Tracking;"
        "from trainyard.training.cluster_config import TrackingConfig;"
        "Tracking(pathlib.Path('.').resolve(), TrackingConfig(), SimpleNamespace(name='cnn'))"
    )
    assert f"MachineError: MLflow at sqlite:///{tmp_path}/mlflow.db: (sqlite3.OperationalError)" in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_holds_no_secret(tracking: Tracking, packed_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter22-canary")
    tags = {"remote": "https://me:pw-canary@host/x", "note": "with hunter22-canary"}
    run = tracking.client.get_run(tracking.start("f-1", read_card(packed_digits), tags))
    assert run.data.tags["remote"] == "https://***@host/x"
    assert run.data.tags["note"] == "with ***"


def test_nested_values_become_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": "1", "a.c": "[1, 2]", "d": "None"}
