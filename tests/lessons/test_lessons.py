"""The frame of the lessons: recipes, changes, data, the loop, pages, the command."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.narrow import narrow
from trainyard.cli import app
from trainyard.errors import InputError
from trainyard.lessons.catalogue import LESSONS, Table, known, recipe_file, recipes_of, varied
from trainyard.lessons.dense import build_dense, parameters
from trainyard.lessons.loop import build, score, train, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.run import Outcome, cells, render
from trainyard.params import ParamsError
from trainyard.recipe import read_all
from trainyard.training.fit import fit
from trainyard.training.job import FitJob


def recipe_of(name: str, folder: Path, *changes: str):
    return next(iter(recipes_of(name, folder, 0, changes).values()))


@pytest.mark.parametrize("name", LESSONS)
def test_a_lessons_recipes_are_recipes_of_a_params_yaml(name: str) -> None:
    recipes, _, _ = read_all(recipe_file(name))
    assert recipes and all(recipe.train.precision == "fp32" for recipe in recipes)


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_a_page_with_its_figure_and_what_to_change(name: str, root: Path) -> None:
    number = LESSONS[name][0]
    page = root / "docs" / "lessons" / f"{number:02d}-{name}.md"
    text = page.read_text(encoding="utf-8")
    assert f"trainyard lesson {name}" in text
    assert f"figures/{name}.png" in text and (page.parent / "figures" / f"{name}.png").stat().st_size < 150_000
    assert re.search(r"\]\(\.\./reference/\w+\.md", text), "no link to the reference of its keys"
    index = (page.parent / "README.md").read_text(encoding="utf-8")
    assert f"({page.name})" in index and f"(figures/{name}.png)" in index
    for key in re.findall(r"--set ([\w.]+=[^\s`]+)", text):
        assert recipe_file(name).is_file() and recipes_of(name, page.parents[2] / ".trainyard" / "tests", 0, [key])


def test_the_numbers_are_those_of_an_introduction_in_order_and_each_once() -> None:
    numbers = [number for number, _ in LESSONS.values()]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1 and numbers[-1] <= 17
    assert known("3") == known("initialisation") == "initialisation"


def test_a_lesson_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"initialization: no such lesson; did you mean 'initialisation'\?"):
        known("initialization")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rate=1", "expected KEY=VALUE, such as train.learning_rate=0.1"),
        ("train.learning_rate", "expected KEY=VALUE"),
        ("train.learning_rat=1", "train.learning_rat: no such key; .*did you mean 'learning_rate'"),
        ("train.learning_rate=fast", "train.learning_rate: found 'fast'; expected number"),
        ("train.seed.deep=1", "seed is 0, which holds no keys"),
        ("train.learning_rate=[", "is no YAML value"),
    ],
)
def test_a_change_that_is_none_is_refused_with_its_place(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, ParamsError), match=message):
        recipes_of("cost", tmp_path, 0, [change])


def test_data_are_packed_once(lesson_root: Path, tmp_path: Path) -> None:
    recipe = recipe_of("activation", tmp_path)
    first = packed(recipe, lesson_root)
    before = (first.folder / "card.json").stat().st_mtime_ns
    assert packed(recipe, lesson_root).card == first.card
    assert (first.folder / "card.json").stat().st_mtime_ns == before
    assert (lesson_root / recipe.data.path / "images.npy").is_file()


def test_the_loop_is_the_training_of_every_recipe(lesson_root: Path, tmp_path: Path) -> None:
    recipe = recipe_of("initialisation", tmp_path, "train.epochs=2", "train.schedule=one_cycle", "model.convolutions=2")
    data = packed(recipe, lesson_root)
    network = build(recipe, data.card)
    losses = [(step.epoch, step.loss) for step in train(network, recipe, data.train)]
    found = score(network, recipe, [whole(data.val)])
    history = fit(FitJob(recipe=recipe, data_dir=data.folder, scratch_dir=tmp_path / "fit", fingerprint="f")).history
    # The last batch of an epoch is smaller; the mean over samples is over more than the mean over batches.
    sizes = np.array([64] * 18 + [len(data.train) - 18 * 64])
    first = np.array([loss for epoch, loss in losses if epoch == 0])
    assert history[0]["train/loss"] == pytest.approx(float((first * sizes).sum() / sizes.sum()), rel=1e-3)
    assert history[1]["val/loss"] == pytest.approx(found.loss, rel=1e-2)


def test_a_dense_network_has_a_weight_for_each_pixel_and_unit(lesson_root: Path, tmp_path: Path) -> None:
    recipe = recipe_of("activation", tmp_path)
    data = packed(recipe, lesson_root)
    network = build_dense(recipe, data.card, (5,))
    assert parameters(network) == 2 * 5 + 5 + 5 * 2 + 2
    assert network(whole(data.test).inputs[0]).shape == (len(data.test), 2)


def test_a_value_varied_is_checked_as_one_that_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is even and has no middle pixel"):
        varied(recipe_of("cost", tmp_path), "model.kernel_size", 2)


def test_numbers_of_several_seeds_are_shown_as_mean_least_and_most() -> None:
    tables = [Table(headers=("a", "b"), rows={"x": (value, 1e-7), "y": (1234.5,)}) for value in (0.25, 0.75)]
    assert cells(tables) == {"x": ["0.5 (0.25 to 0.75)", "1.0e-07"], "y": ["1,234"]}


def test_the_list_names_all_lessons_in_order() -> None:
    shown = CliRunner().invoke(app, ["lessons"]).output
    assert re.findall(r"^ ?\d+  (\S+)", shown, flags=re.MULTILINE) == list(LESSONS)


@pytest.mark.pipeline
def test_a_lesson_says_what_held_writes_its_figure_and_is_a_run_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(app, ["lesson", "2", "--seed", "1", "--set", "train.epochs=3"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Lesson 2:" in done.output and "Yes: the claim held here (seed 1)." in done.output
    assert (tmp_path / "reports" / "lessons" / "feedback-loop.png").is_file()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [entry for entry in client.search_experiments() if entry.name == "lessons"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["trainyard.lesson"] == "feedback-loop"
    assert run.data.params["train.epochs"] == "3" and run.data.metrics["holds"] == 1
    assert {entry.path for entry in client.list_artifacts(run.info.run_id, "lesson")} == {
        "lesson/feedback-loop.png",
        "lesson/finding.json",
        "lesson/params.yaml",
    }


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_number_of_a_lesson_is_broken_over_lines(seeds: int) -> None:
    headers = ("accuracy", "moved by 1", "moved by 2", "moved by 4", "logits change by 1 pixel")
    tables = tuple(
        Table(headers=headers, rows={"convolutions": tuple(0.9 + seed / 100 for _ in headers)}) for seed in range(seeds)
    )
    outcome = Outcome(name="shift", seeds=tuple(range(seeds)), tables=tables, held=(True,) * seeds, figure=Path("shift.png"))
    lines = narrow(render(outcome), "convolutions", "0.91 (0.9 to 0.92)" if seeds > 1 else "0.9")
    assert ("  logits change by 1 pixel  0.91 (0.9 to 0.92)" in lines) is (seeds > 1)
