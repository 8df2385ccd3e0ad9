from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pipeline.conftest import Project
from trainyard.evaluation.forecast_report import write_by_step
from trainyard.evaluation.forecasts import Errors

pytestmark = pytest.mark.pipeline
RECIPES = ("cnn", "unet", "lstm")
STAGES = ("prepare", "train", "evaluate", "gate", "export")


def runs(project: Project) -> list[tuple[str, str]]:
    with sqlite3.connect(project.folder / "mlflow.db") as connection:
        return list(connection.execute("select name, status from runs order by name"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_command_trains_evaluates_and_exports_all_recipes(project: Project) -> None:
    assert sorted(project.stages_run(project.first_output)) == sorted(  # type: ignore[attr-defined]
        f"{stage}@{recipe}" for stage in STAGES for recipe in RECIPES
    )
    for recipe in RECIPES:
        for name in ("model.safetensors", "recipe.json", "run.json", "model.onnx", "parity.json"):
            assert (project.folder / "models" / recipe / name).stat().st_size > 0
        assert list((project.folder / "reports" / recipe / "figures").glob("*.png"))


def test_what_is_shown_is_short_and_free_of_the_frameworks_noise(project: Project) -> None:
    output: str = project.first_output  # type: ignore[attr-defined]
    for noise in ("Warning", "GPU available", "mlflow", "alembic", "Traceback", "raylet", "INFO", "[torch.onnx]"):
        assert noise not in output
    assert "cnn · train · epoch 6/6 · loss " in output


def test_a_second_repro_runs_nothing(project: Project) -> None:
    began = time.monotonic()
    output = project.run("dvc", "repro")
    assert project.stages_run(output) == []
    # Three seconds on a free machine; the tests may share theirs.
    assert time.monotonic() - began < 15


def test_each_recipe_is_one_finished_run_with_all_three_stages(project: Project) -> None:
    found = runs(project)
    assert [status for _, status in found] == ["FINISHED"] * 3
    with sqlite3.connect(project.folder / "mlflow.db") as connection:
        keys = {key for (key,) in connection.execute("select distinct key from latest_metrics")}
    for key in ("train/loss", "val/loss", "best/epoch", "test/accuracy", "test/mean_iou", "export/size_bytes"):
        assert key in keys
    models = list((project.folder / "mlartifacts").rglob("MLmodel"))
    assert len(models) == 3
    assert all("signature" in path.read_text() and "input_example" in path.read_text() for path in models)


def test_metrics_are_shown_by_dvc(project: Project) -> None:
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))
    files = shown[""]["data"]
    for recipe in RECIPES:
        assert files[f"reports/{recipe}/evaluate.json"]["data"]
        assert files[f"reports/{recipe}/export.json"]["data"]["size_bytes"] > 0
    plots = project.run("dvc", "plots", "show", "-o", "shown")
    assert "index.html" in plots


def bars(project: Project, *command: str) -> dict[str, list[dict[str, str]]]:
    """Return what DVC draws of each recipe's classes."""
    drawn = json.loads(project.run("dvc", "plots", *command, "--json", "-o", "shown"))
    assert [error for error in drawn.get("errors", []) if "per_class" in error["name"]] == []
    found = {}
    for name, (plot, *_) in drawn["data"].items():
        if name.endswith("per_class.csv"):
            content = plot["content"] if isinstance(plot["content"], dict) else json.loads(plot["content"])
            assert content["encoding"]["x"]["field"] == "score" and content["encoding"]["y"]["field"] == "part"
            assert content["encoding"]["x"]["scale"]["zero"] is True
            found[Path(name.partition("::")[2] or name).parent.name] = content["data"]["values"]
    return found


def test_scores_by_class_are_drawn_and_compared_by_dvc(project: Project) -> None:
    """One set of columns for all kinds of data; the table of a forecast stands in for a recipe that there is none of here."""
    project.run("git", "add", "dvc.lock", "reports")
    project.run("git", "commit", "-q", "-m", "trained")
    table = project.folder / "reports" / "lstm" / "per_class.csv"
    before = table.read_text()
    shown = bars(project, "show")
    assert [row["part"] for row in shown["cnn"]] == [str(digit) for digit in range(10)]
    assert "background" in {row["part"] for row in shown["unet"]} and "torch" in {row["part"] for row in shown["lstm"]}
    assert all(0 <= float(row["score"]) <= 1 for rows in shown.values() for row in rows)
    one = np.ones((4, 1))
    by_step = np.array([[0.5], [0.75]])
    errors = Errors(squared=one, absolute=one, squared_by_step=by_step, absolute_by_step=by_step)
    write_by_step(table, errors, None, SimpleNamespace(arrays={"std": np.ones(1)}), ("load",))  # type: ignore[arg-type]
    try:
        compared = bars(project, "diff", "HEAD")["lstm"]
    finally:
        table.write_text(before)
    assert [(row["part"], row["score"]) for row in compared if row["rev"] == "workspace"] == [("1", "0.5"), ("2", "0.75")]
    assert "torch" in {row["part"] for row in compared if row["rev"] == "HEAD"}


def test_a_changed_rate_runs_one_recipes_later_stages_and_going_back_runs_none(project: Project) -> None:
    weights = project.folder / "models" / "cnn" / "model.safetensors"
    before, runs_before, identity = sha256(weights), len(runs(project)), (weights.parent / "run.json").read_text()
    project.change("learning_rate: 5e-3, schedule", "learning_rate: 2e-3, schedule")
    assert project.stages_run(project.run("dvc", "repro")) == ["train@cnn", "evaluate@cnn", "gate@cnn", "export@cnn"]
    assert sha256(weights) != before
    assert len(runs(project)) == runs_before + 1

    project.change("learning_rate: 2e-3, schedule", "learning_rate: 5e-3, schedule")
    output = project.run("dvc", "repro")
    assert project.stages_run(output) == []
    assert "is cached" in output
    assert sha256(weights) == before
    assert (weights.parent / "run.json").read_text() == identity
    assert len(runs(project)) == runs_before + 1


def test_scaling_and_tracking_settings_run_nothing(project: Project) -> None:
    project.change("workers: 0", "workers: 1")
    assert project.stages_run(project.run("dvc", "repro")) == []
    project.change("workers: 1", "workers: 0")


def test_other_libraries_prepare_again_and_train_again_only_where_the_data_changed(project: Project) -> None:
    lock = project.folder / "requirements.lock"
    before = lock.read_text()
    lock.write_text(before + "# another version\n")
    assert sorted(project.stages_run(project.run("dvc", "repro"))) == ["prepare@cnn", "prepare@lstm", "prepare@unet"]
    lock.write_text(before)
    assert project.stages_run(project.run("dvc", "repro")) == []


def test_one_stage_of_one_recipe_can_be_asked_for(project: Project) -> None:
    assert project.stages_run(project.run("dvc", "repro", "-f", "-s", "prepare@unet")) == ["prepare@unet"]
    assert project.stages_run(project.run("dvc", "repro")) == []


def test_a_forced_run_trains_again_to_the_same_bits_in_a_run_of_its_own(project: Project) -> None:
    weights = project.folder / "models" / "cnn" / "model.safetensors"
    before, runs_before = sha256(weights), len(runs(project))
    output = project.run("dvc", "repro", "-f", "-s", "train@cnn")
    assert "cnn · train · epoch 6/6" in output
    assert sha256(weights) == before
    assert len(runs(project)) == runs_before + 1


def test_a_typo_stops_with_its_line_before_anything_runs(project: Project) -> None:
    project.change("epochs: 6", "epoch: 6")
    output = project.run("dvc", "repro", "train@cnn", code=255)
    project.change("epoch: 6", "epochs: 6")
    assert "line 6: recipes.cnn.train.epoch: no such key" in output
    assert "did you mean 'epochs'?" in output
    assert "Traceback" not in output


def test_an_experiment_leaves_its_run_in_the_projects_store(project: Project) -> None:
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "results")
    before = len(runs(project))
    project.run("dvc", "exp", "run", "--temp", "-q", "-n", "slow", "-S", "recipes.cnn.train.learning_rate=1e-3", "train@cnn")
    assert "slow" in project.run("dvc", "exp", "list")
    assert len(runs(project)) == before + 1
