"""Several trainings of one recipe, in a project of their own."""

from __future__ import annotations

import json

import pytest

from tests.pipeline.conftest import TRAINYARD, Project, rows

pytestmark = pytest.mark.pipeline


def test_a_recipe_with_two_seeds_is_two_runs_below_one(one: Project) -> None:
    before = (one.folder / "models" / "cnn" / "model.safetensors").read_bytes()
    output = one.run(*TRAINYARD, "repeat", "cnn", "--seeds", "2")
    found = json.loads((one.folder / "reports" / "cnn" / "repeat.json").read_text())
    accuracy = found["metrics"]["accuracy"]
    assert found["seeds"] == [0, 1] and len(accuracy["values"]) == 2
    assert accuracy["mean"] == pytest.approx(sum(accuracy["values"]) / 2)
    assert "2 seeds, 0 to 1, test split" in output
    # The first seed is the recipe's own, so its training ends with the same metrics.
    own = json.loads((one.folder / "reports" / "cnn" / "evaluate.json").read_text())
    assert accuracy["values"][0] == own["test/accuracy"]
    (parent,) = rows(one, "select run_uuid from tags where key = 'trainyard.study' and value = 'repeat'")
    children = rows(one, f"select run_uuid from tags where key = 'mlflow.parentRunId' and value = '{parent[0]}'")
    assert len(children) == 2
    assert rows(one, f"select status from runs where run_uuid = '{parent[0]}'") == [("FINISHED",)]
    # The project's own model and pipeline are as they were.
    assert (one.folder / "models" / "cnn" / "model.safetensors").read_bytes() == before
    assert one.stages_run(one.run("dvc", "repro", "export@cnn")) == []
    assert "epoch" not in one.run(*TRAINYARD, "repeat", "cnn", "--seeds", "2")


def test_two_seeds_are_compared_on_the_same_samples(one: Project) -> None:
    folder = ".trainyard/studies/cnn/repeat/seed-{}/reports/cnn/predictions.parquet"
    (second,) = rows(one, "select run_uuid from params where key = 'train.seed' and value = '1'")
    found = json.loads(one.run(*TRAINYARD, "compare", "cnn", folder.format(0), second[0], "--json"))
    first, other = found["pairs"]
    assert first["differences"][0]["metric"] == "accuracy"
    assert first["differences"][0]["difference"]["value"] == 0
    assert "no difference can be told" in first["verdict"]
    assert other["same_test"] and other["samples"] == 359
    page = (one.folder / found["page"]).read_text()
    # The run's files came from MLflow, the pictures from the project's own data.
    assert "train.seed" in page.partition("that are the same")[0] and page.count("<img ") == 40
    assert "McNemar" in one.run(*TRAINYARD, "compare", folder.format(0), folder.format(1))


def test_a_learning_curve_has_a_point_for_each_share(one: Project) -> None:
    one.run(*TRAINYARD, "learning-curve", "cnn", "--fractions", "0.2,1", "--same-epochs")
    folder = one.folder / "reports" / "cnn"
    found = json.loads((folder / "learning_curve.json").read_text())
    few, all_of_them = found["points"]
    assert few["samples"] < all_of_them["samples"] / 4
    assert few["baseline"]["value"] < all_of_them["baseline"]["value"]
    assert (folder / "learning_curve.png").stat().st_size > 0 and (folder / "learning_curve.svg").stat().st_size > 0
