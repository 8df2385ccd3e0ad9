from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.params import ParamsError
from trainyard.recipe import read_all, read_recipe

GOOD = """\
recipes:
  cnn:
    family: cnn
    data: {source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}
    model:
      widths: [8]
    train:
      epochs: 2
      batch_size: 64
      optimizer: adamw
      learning_rate: 1e-3
    evaluate: {}
    export: {}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(ParamsError) as caught:
        read_all(write(tmp_path, GOOD.replace(old, new)))
    return str(caught.value)


def test_a_good_file_gives_typed_recipes(tmp_path: Path) -> None:
    recipes, cluster, tracking = read_all(write(tmp_path, GOOD))
    assert recipes[0].name == "cnn"
    assert recipes[0].train.learning_rate == 0.001
    assert recipes[0].model.widths == (8,)
    assert (cluster.workers, tracking.uri) == ("auto", None)


def test_the_projects_own_file_is_good(root: Path) -> None:
    recipes, _, _ = read_all(root / "params.yaml")
    assert {recipe.family for recipe in recipes} == {"cnn", "unet", "lstm"}


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "said"),
    [
        ("learning_rate", "lerning_rate", 11, "recipes.cnn.train.lerning_rate", "did you mean 'learning_rate'?"),
        ("widths", "width", 6, "recipes.cnn.model.width", "did you mean 'widths'?"),
        ("evaluate", "evalute", 12, "recipes.cnn.evalute", "did you mean 'evaluate'?"),
        ("family: cnn", "family: cnm", 3, "recipes.cnn.family", "did you mean 'cnn'?"),
        ("path: requirements.lock, ", "", 4, "recipes.cnn.data.path", "is missing; name the raw data's file or folder"),
        ("source: digits", "source: digts", 4, "recipes.cnn.data.source", "did you mean 'digits'?"),
        ("seed: 0", "sed: 0", 4, "recipes.cnn.data.sed", "did you mean 'seed'?"),
        ("adamw", "adamm", 10, "recipes.cnn.train.optimizer", "did you mean 'adam"),
        ("epochs: 2", "epochs: ten", 8, "recipes.cnn.train.epochs", "found 'ten'; expected integer"),
        ("epochs: 2", "epochs: 2.0", 8, "recipes.cnn.train.epochs", "found 2.0"),
        ("epochs: 2", "epochs: 0", 8, "recipes.cnn.train.epochs", "found 0; expected greater than 0"),
        ("epochs: 2", "epochs: true", 8, "recipes.cnn.train.epochs", "found True"),
        ("batch_size: 64", "batch_size: 0", 9, "recipes.cnn.train.batch_size", "greater than 0 or 'full'"),
        ("1e-3", '"1e-3"', 11, "recipes.cnn.train.learning_rate", "found '1e-3'"),
        ("1e-3", "-1", 11, "recipes.cnn.train.learning_rate", "found -1"),
        ("1e-3", ".nan", 11, "recipes.cnn.train.learning_rate", "found nan"),
        ("1e-3", ".inf", 11, "recipes.cnn.train.learning_rate", "found inf"),
        ("val_fraction: 0.15", "val_fraction: 1.5", 4, "recipes.cnn.data.val_fraction", "found 1.5"),
        ("    evaluate: {}\n", "", 2, "recipes.cnn.evaluate", "is missing"),
        ("      epochs: 2\n", "", 7, "recipes.cnn.train.epochs", "is missing"),
        ("  cnn:", "  ../cnn:", 2, "recipes.../cnn", "use letters, digits"),
        ("  cnn:", f"  {'c' * 101}:", 2, f"recipes.{'c' * 20}...", "is 101 characters long; use at most 100"),
        ("family: cnn", "family: [cnn]", 3, "recipes.cnn.family", "found ['cnn']; expected one of cnn"),
        ("seed: 0", "seed: 4294967296", 4, "recipes.cnn.data.seed", "found 4294967296; expected less than 4294967296"),
        ("val_fraction: 0.15", "val_fraction: 0.9", 4, "recipes.cnn.data", "leave no samples to train on"),
        ("family: cnn", "family: unet", 6, "recipes.cnn.model.widths", "no such key"),
    ],
)
def test_each_mistake_is_named_with_line_key_and_fix(
    tmp_path: Path, old: str, new: str, line: int, key: str, said: str
) -> None:
    message = refusal(tmp_path, old, new)
    assert f"line {line}: {key}: " in message
    assert said in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("epochs", "epoch").replace("adamw", "adm").replace("widths", "wide") + "clutser: {}\n"
    with pytest.raises(ParamsError, match="5 problems") as caught:
        read_all(write(tmp_path, text))
    for key in ("train.epoch:", "train.epochs:", "train.optimizer:", "model.wide:", "clutser:"):
        assert key in str(caught.value)


def test_contradictions_name_both_keys(tmp_path: Path) -> None:
    message = refusal(tmp_path, "optimizer: adamw", "optimizer: adamw\n      momentum: 0.9")
    assert "momentum: 0.9 goes with optimizer: sgd" in message
    message = refusal(tmp_path, "optimizer: adamw", "optimizer: adamw\n      warmup_fraction: 0.1")
    assert "schedule: constant" in message
    message = refusal(tmp_path, "family: cnn", "family: lstm")
    assert "no such key" in message


def test_data_that_the_family_cannot_learn_from_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "source: digits", "source: digit_scenes")
    assert "line 4: recipes.cnn.data.source: 'digit_scenes' is for segmentation, but family: cnn" in message


def test_a_recipe_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"recipes has no 'cn'; it has cnn; did you mean 'cnn'\?"):
        read_recipe(write(tmp_path, GOOD), "cn")


def test_a_recipe_that_repeats_is_refused_with_its_line(tmp_path: Path) -> None:
    block = GOOD.split("\n", 1)[1]
    with pytest.raises(ParamsError, match=r'params.yaml:14: found duplicate key "cnn"'):
        read_all(write(tmp_path, GOOD + block))


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params.yaml:\d+: .*mend the YAML"):
        read_all(write(tmp_path, GOOD.replace("widths: [8]", "widths: [8")))


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("    evaluate: {}\n", "    evaluate: {}\n# \x07\n", ":13: ", "control character '\\x07'; delete it"),
        ("widths: [8]", "widths: &wide [*wide]", ":6: ", "the anchor '&wide' holds itself"),
        ("model:\n      widths: [8]", "model: &model\n      widths: *model", ":5: ", "the anchor '&model' holds itself"),
        ("widths: [8]", f"widths: {'[' * 1000}{']' * 1000}", ": ", "nested too deeply"),
        ("epochs: 2", "epochs: !!int two", ": ", "'two'; write a plain value"),
        ("epochs: 2", f"epochs: {'2' * 5000}", ": ", "write a plain value"),
        ("  cnn:", "  2024:", " has 1 problem:\n  line 2: recipes: ", "has 2024 without quotes; which YAML reads as"),
    ],
)
def test_what_yaml_takes_and_no_recipe_can_be_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: str, said: str
) -> None:
    message = refusal(tmp_path, old, new)
    assert f"params.yaml{line}" in message
    assert said in message


def test_empty_blocks_and_recipes_hide_nothing_else(tmp_path: Path) -> None:
    text = GOOD.replace("    evaluate: {}\n", "    evaluate:\n").replace("epochs: 2", "epochs: two")
    text += "  dogs:\n  cats: 3\nsweep:\ncluster:\ntracking: {system_metric: true}\n"
    with pytest.raises(ParamsError) as error:
        read_all(write(tmp_path, text))
    assert [line.split(": ", 1)[1] for line in str(error.value).splitlines()[1:]] == [
        "recipes.cnn.train.epochs: found 'two'; expected integer",
        "recipes.cnn.evaluate: is empty; write its keys below it, or {} where it needs none",
        "recipes.dogs: is empty; write its keys below it, or {} where it needs none",
        "recipes.cats: is 3; expected a mapping of names",
        "sweep: is empty; write its keys below it, or {} where it needs none",
        "cluster: is empty; write its keys below it, or {} where it needs none",
        "tracking.system_metric: no such key; valid here: uri, experiment, system_metrics; did you mean 'system_metrics'?",
    ]


def test_an_anchor_may_be_used_many_times(tmp_path: Path) -> None:
    text = GOOD.replace("widths: [8]", "widths: &wide [8]").replace("train:", "train: &train")
    again = "  other:\n    family: cnn\n    data: {source: digits, path: requirements.lock}\n    model: {widths: *wide}\n"
    again += "    train: {<<: *train, seed: 1}\n    evaluate: {}\n    export: {}\n"
    recipes, _, _ = read_all(write(tmp_path, text + again))
    assert [(recipe.model.widths, recipe.train.seed) for recipe in recipes] == [((8,), 0), ((8,), 1)]


def test_a_tag_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = f'!!python/object/apply:os.system ["touch {marker}"]'
    with pytest.raises(ParamsError):
        read_all(write(tmp_path, GOOD.replace("[8]", evil)))
    assert not marker.exists()


def test_program_and_dvc_read_the_same_values(tmp_path: Path) -> None:
    words = "a: 1e-3\nb: no\nc: 012\nd: 1:30\ne: 0o17\nf: on\ng: 1_000\nh: ~\n"
    path = write(tmp_path, "recipes: {}\n" + words)
    code = (
        "from dvc.utils.serialize import load_yaml; from trainyard.params import Params; from pathlib import Path;"
        f"a, b = load_yaml({str(path)!r}), Params(Path({str(path)!r})).values; assert a == b, (a, b); print(b)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'a': 0.001" in done.stdout
    assert "'b': 'no'" in done.stdout
    assert "'c': 12" in done.stdout


def test_reading_a_recipe_imports_no_framework(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trainyard.recipe import read_all;"
        f"read_all(Path({str(root / 'params.yaml')!r}));"
        "print([name for name in ('torch', 'ray', 'mlflow', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_range_of_workers_is_read_and_must_rise(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    _, cluster, _ = read_all(write(tmp_path / "good", f"{GOOD}cluster: {{workers: [1, 4]}}\n"))
    assert (cluster.workers, cluster.least, cluster.most) == ((1, 4), 1, 4)
    with pytest.raises(ParamsError, match=r"workers: \[4, 1\] asks for at least 4 and at most 1; write \[1, 4\]"):
        read_all(write(tmp_path, f"{GOOD}cluster: {{workers: [4, 1]}}\n"))
    with pytest.raises(ParamsError, match=r"cluster\.workers"):
        read_all(write(tmp_path, f"{GOOD}cluster: {{workers: [1, 2, 3]}}\n"))
