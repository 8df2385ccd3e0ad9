from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.conftest import TINY
from trainyard.params import ParamsError
from trainyard.recipe import read_all, read_changed, read_sweep
from trainyard.studies.sweep_config import Asked, Range, own_values

GOOD = """\
sweep:
  cnn:
    over:
      train.learning_rate: {log: [1e-4, 1e-1]}
      model.widths: {choice: [[8, 16], [16, 32]]}
      model.dropout: {uniform: [0, 0.5]}
      train.augment.shift: {integer: [0, 2]}
    trials: 12
"""


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(TINY + GOOD)
    return path


def refused(path: Path, old: str, new: str) -> str:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ParamsError) as whole:
        read_all(path)
    with pytest.raises(ParamsError) as one:
        read_sweep(path, "cnn")
    # `trainyard check` and `trainyard sweep` say the same.
    assert str(one.value) == str(whole.value)
    return str(one.value)


def test_a_sweep_is_read_with_its_ranges_and_the_recipe_stays_what_it_was(params: Path) -> None:
    asked = read_sweep(params, "cnn")
    assert asked.config.over["train.learning_rate"].ends == (1e-4, 1e-1)
    assert asked.config.over["model.widths"].values == ([8, 16], [16, 32])
    assert (asked.config.trials, asked.config.most, asked.config.combinations) == (12, 12, None)
    assert asked.recipe == read_all(params)[0][0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("train.learning_rate:", "train.lerning_rate:", "did you mean 'learning_rate'?"),
        ("train.learning_rate:", "trian.learning_rate:", "expected a key within data, model, train"),
        ("train.learning_rate:", "evaluate.batch_size:", "is no key that a trial may change"),
        ("train.learning_rate:", "data.val_fraction:", "decides which samples validate and test"),
        ("log: [1e-4, 1e-1]", "lgo: [1e-4, 1e-1]", "valid here: uniform, log, integer, choice; did you mean 'log'?"),
        ("log: [1e-4, 1e-1]", "log: [1e-1, 1e-4]", "expected [lowest, highest], finite, the lower one first"),
        ("log: [1e-4, 1e-1]", "log: [0, 1e-1]", "expected both above 0"),
        ("log: [1e-4, 1e-1]", "log: [1e-4, 1e-1], choice: [1, 2]", "found log and choice of uniform, log, integer, choice"),
        ("log: [1e-4, 1e-1]", "uniform: [-1, 1]", "the value -1.0 cannot be: found -1.0; expected greater than 0"),
        ("[16, 32]]", "wide]", "the value 'wide' cannot be: found 'wide'"),
        ("choice: [[8, 16], [16, 32]]", "choice: [[8, 16], [8, 16]]", "expected two values or more, each once"),
        ("trials: 12", "trails: 12", "did you mean 'trials'?"),
        ("trials: 12", "trials: 0", "expected greater than 0"),
        ("trials: 12", "metric: acuracy", "expected one of accuracy, macro_f1, loss; did you mean 'accuracy'?"),
        ("trials: 12", "searcher: grid", "train.learning_rate, model.dropout has infinitely many"),
        ("trials: 12", "keep_one_in: 1", "ends no trial; use 2 or more"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_what_to_do(params: Path, old: str, new: str, said: str) -> None:
    first = len(TINY.splitlines()) + 1
    wrong = next(number for number, line in enumerate(GOOD.splitlines(), start=first) if old in line)
    text = refused(params, old, new)
    assert "has 1 problem:" in text and said in text
    # What the block says against itself is told of the block.
    assert f"  line {wrong}: sweep.cnn." in text or f"  line {first + 1}: sweep.cnn: " in text, text


def test_the_sweep_of_no_recipe_is_refused_and_a_recipe_without_one_is_told_how(params: Path) -> None:
    params.write_text(params.read_text().replace("sweep:\n  cnn:", "sweep:\n  cn:"))
    with pytest.raises(ParamsError, match=r"sweep\.cn: is no recipe; expected a recipe: cnn, unet, lstm; did you mean 'cnn'"):
        read_all(params)
    with pytest.raises(ParamsError, match=r"has no sweep for cnn; write one below the recipes, such as sweep: \{cnn: "):
        read_sweep(params, "cnn")


def test_a_trials_recipe_has_its_values_and_is_read_as_strictly(params: Path) -> None:
    asked: Asked = read_sweep(params, "cnn")
    changed = read_changed(asked, {"train.learning_rate": 0.02, "model.widths": [16, 32], "train.augment.shift": 2})
    assert (changed.train.learning_rate, changed.model.widths) == (0.02, (16, 32))  # type: ignore[union-attr]
    assert changed.train.augment is not None and changed.train.augment.shift == 2
    assert asked.recipe.train.augment is None and read_changed(asked, {}) == asked.recipe
    # Each value can be, but not both.
    with pytest.raises(ParamsError, match=r"warmup_fraction: 0\.25 has no meaning with schedule: constant"):
        read_changed(asked, {"train.schedule": "constant"})


def test_the_recipes_own_values_are_those_that_it_has_unless_one_is_out_of_range(params: Path) -> None:
    asked = read_sweep(params, "cnn")
    over = {key: found for key, found in asked.config.over.items() if key != "train.augment.shift"}
    config = type(asked.config)(over=over)
    assert own_values(asked.recipe, config) == {"train.learning_rate": 5e-3, "model.widths": [8, 16], "model.dropout": 0.2}
    assert own_values(asked.recipe, type(config)(over={**over, "model.dropout": Range(uniform=(0.3, 0.5))})) is None
    assert own_values(asked.recipe, asked.config) is None
