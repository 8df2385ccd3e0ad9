"""What names stand for: in a project with a trained recipe, a champion, and a tracking store of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from tests.evaluation.comparing import about, write_labels
from tests.pipeline.conftest import TINY
from trainyard.comparing.contender import Contender
from trainyard.comparing.find import find
from trainyard.data.packed import read_card
from trainyard.errors import InputError, ServiceError
from trainyard.training.cluster_config import TrackingConfig

RIGHT = np.array([True] * 8 + [False] * 2)
CONFIG = TrackingConfig()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, packed_digits: Path) -> Path:
    """A recipe with its run, one more run with files, two runs of one name, and a run of another store's."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text(TINY)
    reports = root / "reports" / "cnn"
    write_labels(reports / "predictions.parquet", RIGHT, about("cnn"))
    (reports / "train.json").write_text(json.dumps({"seconds": 12.5, "epochs": 2, "best/accuracy": 0.8}))
    (reports / "evaluate.json").write_text(json.dumps({"test/accuracy": 0.8, "test/accuracy_low": 0.5}))
    (reports / "export.json").write_text(json.dumps({"size_bytes": 1000}))
    (reports / "history.csv").write_text("epoch,val/loss,seconds,step\n1,2.0,3,10\n2,1.5,6,20\n")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    place = client.create_experiment("cnn", artifact_location=(root / "mlartifacts").as_uri())
    trained = client.create_run(place, run_name="cnn-seed0-aaaaaa", tags={"machine.torch": "2.0"})
    client.log_metric(trained.info.run_id, "system/system_memory_usage_megabytes", 300, step=1)
    client.log_metric(trained.info.run_id, "system/system_memory_usage_megabytes", 200, step=2)
    other = client.create_run(place, run_name="cnn-seed1-bbbbbb", tags={"trainyard.fingerprint": "cnn-bbbbbb0000000000"})
    client.log_param(other.info.run_id, "train.seed", "1")
    for epoch, value in enumerate((3.0, 2.0)):
        client.log_metric(other.info.run_id, "val/loss", value, step=epoch)
    client.log_artifact(other.info.run_id, str(reports / "predictions.parquet"), "evaluate")
    client.log_artifact(other.info.run_id, str(packed_digits / "card.json"), "data")
    for _ in range(2):
        client.create_run(place, run_name="twin")
    models = root / "models" / "cnn"
    models.mkdir(parents=True)
    (models / "run.json").write_text(json.dumps({"run_key": "k", "run_id": trained.info.run_id, "fingerprint": "cnn-1"}))
    (models / "recipe.json").write_text(json.dumps({"fingerprint": "cnn-1", "recipe": {"name": "cnn", "train": {"seed": 0}}}))
    (root / "other").write_text(other.info.run_id)
    return root


@pytest.fixture(scope="module")
def found(project: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Contender]:
    """The recipe, the run by its id, and the run by its fingerprint."""
    names = ["cnn", (project / "other").read_text(), "reports/cnn/predictions.parquet"]
    return find(project, CONFIG, names, tmp_path_factory.mktemp("brought"))


def test_a_recipe_is_what_its_files_say_and_its_run_adds_machine_and_memory(found: list[Contender]) -> None:
    recipe = found[0]
    assert recipe.params == {"train.seed": "0"}
    assert recipe.metrics["export/size_bytes"] == 1000 and recipe.metrics["test/accuracy"] == 0.8
    assert recipe.curves == {"val/loss": [(1.0, 2.0), (2.0, 1.5)]}
    assert recipe.run is not None and recipe.run.peaks == {"system/system_memory_usage_megabytes": 300}
    assert recipe.run.tags["machine.torch"] == "2.0"
    assert recipe.missing == ()


def test_a_run_comes_with_its_parameters_curves_and_files(found: list[Contender], packed_digits: Path) -> None:
    run = found[1]
    assert run.label == "cnn-seed1-bbbbbb"
    assert run.params == {"train.seed": "1"}
    # As in history.csv, epochs count from 1.
    assert list(run.curves["val/loss"]) == [(1, 3.0), (2, 2.0)]
    assert run.results is not None and len(run.results) == len(RIGHT)
    assert run.card is not None and run.card.sha256 == read_card(packed_digits).sha256
    assert len(run.details["confidence"]) == len(RIGHT)


def test_a_file_of_results_brings_the_reports_beside_it(found: list[Contender]) -> None:
    assert found[2].metrics["best/accuracy"] == 0.8 and found[2].curves
    assert "does not say its parameters" in found[2].missing[0]


def test_names_that_stand_for_nothing_or_for_several_things_are_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: is no recipe \(there are: cnn, unet, lstm\).* has no such run"):
        find(project, CONFIG, ["cnn", "nowhere"], tmp_path / "a")
    with pytest.raises(
        InputError, match=r"twin: MLflow at sqlite:\S+ has 2 runs called twin; name one by its id:\n  [0-9a-f]{32}  \d"
    ):
        find(project, CONFIG, ["cnn", "twin"], tmp_path / "b")


def test_one_name_or_the_same_twice_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one model is not compared with anything"):
        find(project, CONFIG, ["cnn"], tmp_path)
    with pytest.raises(InputError, match="cnn: named twice"):
        find(project, CONFIG, ["cnn", "cnn"], tmp_path)


def test_a_recipe_that_was_never_trained_is_sent_to_dvc(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unet: nothing was trained yet of this recipe; run: dvc repro export@unet"):
        find(project, CONFIG, ["unet", "reports/cnn/predictions.parquet"], tmp_path)


def test_recipes_are_compared_without_a_store_that_answers_but_runs_are_not(project: Path, tmp_path: Path) -> None:
    away = TrackingConfig(uri="http://127.0.0.1:9")
    shutil.copytree(project / "reports" / "cnn", project / "reports" / "copy", dirs_exist_ok=True)
    recipe, copy = find(project, away, ["cnn", "copy"], tmp_path / "a")
    assert recipe.results is not None and copy.results is not None
    assert "machine, code and memory are not known here: MLflow at http://127.0.0.1:9" in recipe.missing[0]
    with pytest.raises(ServiceError, match=r"0{32}: MLflow at http://127\.0\.0\.1:9"):
        find(project, away, ["cnn", "0" * 32], tmp_path / "b")
