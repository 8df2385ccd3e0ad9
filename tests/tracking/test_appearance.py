"""What MLflow's own pages are told, so that runs line up there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mlflow.tracking import MlflowClient

from trainyard.data.packed import read_card
from trainyard.evaluation.results import sha256_of_test
from trainyard.tracking.appearance import RENEWED, VIEW_TAG, experiment_tags, run_name
from trainyard.tracking.run import Tracking

MARK = "digits-5ed7844e044b15dd"


def test_a_run_is_called_by_recipe_seed_and_state_and_a_study_by_its_own_name() -> None:
    assert run_name("cnn", 3, "cnn-5ed7844e044b15dd") == "cnn-seed3-5ed784"
    assert run_name("cnn", 3, "cnn-repeat") == "cnn-repeat"
    assert run_name("a-b", 0, "a-b-5ed7844e044b15dd") == "a-b-seed0-5ed784"


def test_an_error_is_listed_with_the_lowest_one_first() -> None:
    tags = experiment_tags("forecasting", 0)
    state = json.loads(json.loads(tags[f"{VIEW_TAG}trainyard-mse"])["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/mse`", True)
    assert "metrics.`best/mse`" in state["selectedColumns"]
    assert all(len(value) < 5000 for value in tags.values())


def test_runs_have_names_sources_data_and_notes_and_their_experiment_opens_by_results(
    tmp_path: Path, packed_digits: Path, make_tracking: Callable[[str], Tracking], send: Callable[[], MlflowClient]
) -> None:
    card = read_card(packed_digits)
    with make_tracking("train") as tracking:
        tracking.start(tmp_path / "run.json", MARK, card, {})
        tracking.note("first of {run_id}\n" + RENEWED)
    client = send()
    (run,) = client.search_runs(["1"])
    assert run.info.run_name == "digits-seed0-5ed784"
    assert run.data.tags["mlflow.source.name"] == "pipeline/train.py"
    data = {one.tags[0].value: (one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    assert data == {
        "training": ("digits", card.sha256[:12]),
        "testing": ("digits test", sha256_of_test(card)[:12]),
    }
    assert run.data.tags["mlflow.note.content"].startswith(f"first of {run.info.run_id}\n")
    experiment = client.get_experiment("1")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(experiment.tags[f"{VIEW_TAG}trainyard-accuracy"])
    assert json.loads(view["state"])["orderByKey"] == "metrics.`test/accuracy`"


def test_what_a_person_wrote_stays_and_our_own_note_is_renewed(
    tmp_path: Path, packed_digits: Path, make_tracking: Callable[[str], Tracking], send: Callable[[], MlflowClient]
) -> None:
    def tell(text: str) -> MlflowClient:
        with make_tracking("train") as tracking:
            tracking.start(tmp_path / "run.json", MARK, read_card(packed_digits), {})
            tracking.note(f"{text}\n{RENEWED}")
        return send()

    client = tell("first")
    client = tell("second")
    (run,) = client.search_runs(["1"])
    assert run.data.tags["mlflow.note.content"].startswith("second")
    client.set_tag(run.info.run_id, "mlflow.note.content", "the best of all")
    client.set_experiment_tag("1", "mlflow.note.content", "our experiment")
    tell("third")
    assert client.get_run(run.info.run_id).data.tags["mlflow.note.content"] == "the best of all"
    assert client.get_experiment("1").tags["mlflow.note.content"] == "our experiment"
