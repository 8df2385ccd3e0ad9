from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import _validate_model_name

from tests.tracking.journals import curve
from trainyard.data.packed import Card, read_card
from trainyard.errors import InputError
from trainyard.recipe import Recipe
from trainyard.tracking.address import without_password
from trainyard.tracking.below import Unsent
from trainyard.tracking.journal import journals
from trainyard.tracking.run import Tracking, flatten
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.spool import Reader, Record, append

MakeTracking = Callable[[str], Tracking]
Send = Callable[[], MlflowClient]


@pytest.fixture
def card(packed_digits: Path) -> Card:
    return read_card(packed_digits)


def epoch(number: int, loss: float) -> Record:
    return Record(kind="epoch", epoch=number, step=number * 3 + 3, seconds=1.0, left_seconds=1.0, values={"train/loss": loss})


def progress(step: int, loss: float) -> Record:
    values = {"train/step_loss": loss, "gradient_norm": 1.0}
    return Record(kind="progress", epoch=0, step=step, seconds=1.0, left_seconds=1.0, values=values)


def runs(client: MlflowClient) -> list[Run]:
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def train(tracking: Tracking, card: Card, folder: Path, fingerprint: str = "f-1") -> None:
    """Do what a training does, to its end."""
    with tracking:
        tracking.start(folder / "run.json", fingerprint, card, {"mlflow.source.git.commit": "abc"})
        with tracking.running(folder / "spool.jsonl"):
            tracking.record(Reader(folder / "spool.jsonl"))


def test_a_run_holds_parameters_data_and_tags(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path, packed_digits: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    run = runs(send())[0]
    assert run.data.params["train.learning_rate"] == "0.003"
    assert run.data.params["model.widths"] == "[8, 16]"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["trainyard.fingerprint"] == "f-1"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert card.sha256 in run.inputs.dataset_inputs[0].dataset.source
    assert run.info.status == "FINISHED"
    assert journals(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED"), (None, "FINISHED")]
)
def test_the_status_follows_how_training_ends(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path, error: type[BaseException] | None, status: str
) -> None:
    tracking = make_tracking("train")
    if error is None:
        train(tracking, card, tmp_path)
    else:
        with pytest.raises(error), tracking:
            tracking.start(tmp_path / "run.json", "f-1", card, {})
            with tracking.running(tmp_path / "spool.jsonl"):
                raise error
    assert runs(send())[0].info.status == status


def test_a_run_says_how_it_ended_and_why(make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    with pytest.raises(InputError), make_tracking("train") as tracking:
        tracking.start(tmp_path / "run.json", "f-1", card, {})
        with tracking.running(spool):
            raise InputError("the loss is no number; password=hunter22")
    client = send()
    tags = runs(client)[0].data.tags
    assert (tags["exit.state"], tags["exit.code"]) == ("failed", "2")
    assert tags["exit.reason"] == "InputError: the loss is no number; password=***"
    # The same command again: it is the same run, and it ends well.
    train(make_tracking("train"), card, tmp_path)
    (run,) = runs(send())
    assert (run.info.status, run.data.tags["exit.state"], run.data.tags["exit.reason"]) == ("FINISHED", "finished", "")


def test_a_parameter_that_a_later_stage_reads_anew_is_on_record_beside_the_first(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    send()
    for samples, expected in ((50, "50"), (1000, "1000")):
        tracking = make_tracking("evaluate")
        recipe = tracking.recipe
        tracking.recipe = replace(recipe, evaluate=replace(recipe.evaluate, bootstrap_samples=samples))
        with tracking:
            tracking.attach(tmp_path / "run.json", "f-1", card)
            tracking.metrics({"test/accuracy": 0.5})
        (run,) = runs(send())
        # MLflow keeps the value that the run was begun with.
        assert run.data.params["evaluate.bootstrap_samples"] == "1000"
        assert run.data.tags["changed.evaluate.bootstrap_samples"] == expected


def test_a_stage_that_records_nothing_leaves_no_run(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError), make_tracking("train") as tracking:
        tracking.start(tmp_path / "run.json", "f-1", card, {})
        raise ZeroDivisionError
    assert runs(send()) == []


@pytest.mark.parametrize(
    ("experiment", "registered"),
    [("/Users/me/pets", "Users-me-pets-digits"), ("pets: all", "pets- all-digits"), ("pets", "pets-digits"), (None, "digits")],
)
def test_a_model_has_a_name_that_mlflow_takes_whatever_its_experiment_is_called(
    experiment: str | None, registered: str, tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    config = TrackingConfig(experiment=experiment)
    tracking = Tracking(tmp_path, config, replace(make_recipe(), name="digits"), "export", sender=Unsent())
    _validate_model_name(tracking.registered)
    assert tracking.registered == registered


def test_a_stage_that_has_no_time_to_wait_does_not_say_that_the_store_is_away(
    make_tracking: MakeTracking, card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError), make_tracking("train") as tracking:
        tracking.start(tmp_path / "run.json", "f-1", card, {})
        raise ZeroDivisionError
    assert "mlflow.db: has not taken all of it within 3 s; what it missed waits in " in capsys.readouterr().out


def test_later_stages_add_to_the_run_of_the_training(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    # Whether or not anything was sent meanwhile.
    with make_tracking("evaluate") as tracking:
        tracking.attach(tmp_path / "run.json", "f-1", card)
        tracking.metrics({"test/accuracy": 0.5})
    client = send()
    with make_tracking("export") as tracking:
        tracking.attach(tmp_path / "run.json", "f-1", card)
        tracking.metrics({"export/size_bytes": 7})
    client = send()
    (run,) = runs(client)
    assert run.data.metrics == {"test/accuracy": 0.5, "export/size_bytes": 7}
    assert run.info.status == "FINISHED"


def test_a_model_of_another_store_gets_a_run_of_the_same_state_or_its_own(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    client = send()
    elsewhere = tmp_path / "elsewhere.json"
    for fingerprint, expected in (("f-1", 1), ("f-2", 2)):
        elsewhere.write_text(json.dumps({"run_id": "0" * 32, "fingerprint": fingerprint}))
        with make_tracking("evaluate") as tracking:
            tracking.attach(elsewhere, fingerprint, card)
            tracking.metrics({"test/accuracy": 0.5})
        send()
        assert len(runs(client)) == expected
    own = next(run for run in runs(client) if run.data.tags["trainyard.fingerprint"] == "f-2")
    assert own.data.tags["trainyard.restored"] == "0" * 32
    assert own.info.status == "FINISHED"


def test_a_run_that_is_killed_and_resumed_has_each_step_once(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.jsonl"
    first = make_tracking("train")
    first.start(tmp_path / "run.json", "f-1", card, {})
    append(spool, epoch(0, 3.0))
    append(spool, progress(4, 2.5))
    with pytest.raises(KeyboardInterrupt), first.running(spool):
        first.record(Reader(spool))
        # The workers wrote on, and the driver was gone: what it would have said at its end was never said.
        append(spool, progress(5, 2.4))
        with spool.open("a") as file:
            file.write('{"kind": "epoch", "torn')
        first._append = lambda kind, values: None  # type: ignore[method-assign]
        raise KeyboardInterrupt
    assert first.journal is not None
    first.journal.release()
    client = send()
    (run,) = runs(client)
    assert run.info.status == "KILLED"
    assert curve(client, run.info.run_id, "train/step_loss") == [(4, 2.5), (5, 2.4)]

    # The second attempt begins at the checkpoint of epoch 0 and passes step 5 again.
    append(spool, progress(5, 2.4))
    append(spool, progress(6, 2.0))
    append(spool, epoch(1, 1.0))
    train(make_tracking("train"), card, tmp_path)
    send()
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert curve(client, run.info.run_id, "train/step_loss") == [(4, 2.5), (5, 2.4), (6, 2.0)]
    assert curve(client, run.info.run_id, "train/loss") == [(0, 3.0), (1, 1.0)]
    assert curve(client, run.info.run_id, "train/step_gradient_norm") == [(4, 1.0), (5, 1.0), (6, 1.0)]


def test_a_finished_training_that_is_handed_on_again_has_its_summary_once(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    def hand_on() -> None:
        with make_tracking("train") as tracking:
            tracking.start(tmp_path / "run.json", "f-1", card, {})
            with tracking.running(tmp_path / "spool.jsonl"):
                tracking.metrics({"best/accuracy": 0.5, "epochs": 3})

    hand_on()
    # The first one's journal still waits, and one process sends both.
    time.sleep(0.002)
    hand_on()
    client = send()
    hand_on()
    send()
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    for name in ("best/accuracy", "epochs"):
        assert len(client.get_metric_history(run.info.run_id, name)) == 1


def test_artifacts_are_sent_as_they_were_and_lie_beside_the_project(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    report = tmp_path / "report.json"
    report.write_text("as it was")
    with make_tracking("evaluate") as tracking:
        tracking.attach(tmp_path / "run.json", "f-1", card)
        tracking.artifacts([report], "evaluate")
    report.write_text("changed since")
    send()
    (sent,) = (tmp_path / "mlartifacts").rglob("report.json")
    assert sent.read_text() == "as it was"


def test_a_second_evaluation_is_a_second_point_and_the_same_value_is_not(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    train(make_tracking("train"), card, tmp_path)
    for value in (0.5, 0.5, 0.75):
        with make_tracking("evaluate") as tracking:
            tracking.attach(tmp_path / "run.json", "f-1", card)
            tracking.metrics({"test/accuracy": value})
        client = send()
    (run,) = runs(client)
    assert curve(client, run.info.run_id, "test/accuracy") == [(0, 0.5), (0, 0.75)]
    assert run.data.metrics["test/accuracy"] == 0.75


def test_what_ties_files_to_the_run_is_known_before_the_server_is(
    make_tracking: MakeTracking, send: Send, card: Card, tmp_path: Path
) -> None:
    tracking = make_tracking("train")
    train(tracking, card, tmp_path)
    identity = json.loads(tracking.identity())
    assert identity["run_id"] is None
    (run,) = runs(send())
    assert run.data.tags["trainyard.run_key"] == identity["run_key"]


def test_no_password_is_written_down(
    make_tracking: MakeTracking, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:canary@127.0.0.1:9/")
    monkeypatch.setenv("STORE_TOKEN", "canary-in-the-environment")
    tracking = make_tracking("train")
    with tracking:
        tracking.start(tmp_path / "run.json", "f-1", card, {"remote": "https://me:canary@host/x"})
        tracking.tag({"note": "it was canary-in-the-environment"})
    (journal,) = journals(tmp_path)
    written = b"".join(path.read_bytes() for path in journal.rglob("*") if path.is_file())
    assert b"127.0.0.1:9" in written
    assert b"canary" not in written


def test_passwords_are_not_shown() -> None:
    assert without_password("https://me:pw@host/x") == "https://host/x"
    assert without_password("sqlite:////a/mlflow.db") == "sqlite:////a/mlflow.db"


def test_nested_values_become_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": "1", "a.c": "[1, 2]", "d": "None"}
