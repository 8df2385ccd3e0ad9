"""`benchmarks/ablations.py`: every change it offers is a recipe, and differences are taken seed for seed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from trainyard.params import ParamsError


@pytest.fixture(scope="module")
def ablations(root: Path) -> Iterator[ModuleType]:
    """The benchmark, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "benchmarks"))
        spec = importlib.util.spec_from_file_location("ablations", root / "benchmarks" / "ablations.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "ablations", module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("name", ["digits", "scenes", "docstrings", "cifar10", "isbi2012", "trec"])
def test_every_change_that_is_offered_is_a_recipe_of_its_own(ablations: ModuleType, tmp_path: Path, name: str) -> None:
    name, block = ablations.block_of(name)
    base = ablations.as_recipe(tmp_path, name, block)
    changes = ablations.default_changes(tmp_path, name, block)
    assert len(changes) >= 4
    recipes = [ablations.as_recipe(tmp_path, name, ablations.changed(block, change)) for change in changes]
    assert base not in recipes and all(recipes.count(recipe) == 1 for recipe in recipes)


def test_a_change_that_is_none_is_refused(ablations: ModuleType, tmp_path: Path) -> None:
    name, block = ablations.block_of("trec")
    with pytest.raises(ParamsError, match="did you mean 'recurrent_dropout'"):
        ablations.as_recipe(tmp_path, name, ablations.changed(block, dict([ablations.parsed("model.recurrent_dropot=0.3")])))
    with pytest.raises(SystemExit, match="ema: write a key in its block and its value"):
        ablations.parsed("ema")
    with pytest.raises(SystemExit, match=r"cifar: no such recipe; there are cifar10, "):
        ablations.block_of("cifar")


def test_a_change_leaves_the_recipe_itself_as_it_is(ablations: ModuleType) -> None:
    block = {"train": {"augment": {"shift": 2}, "epochs": 3}}
    change = dict(map(ablations.parsed, ["train.augment.flip=both", "train.ema={decay: 0.9}", "train.epochs=null"]))
    assert ablations.changed(block, change) == {"train": {"augment": {"shift": 2, "flip": "both"}, "ema": {"decay": 0.9}}}
    assert block == {"train": {"augment": {"shift": 2}, "epochs": 3}}


def test_differences_are_taken_seed_for_seed(ablations: ModuleType) -> None:
    base, change = [0.80, 0.90, 0.70], [0.81, 0.92, 0.71]
    found = ablations.compared(change, base, "accuracy")
    assert found.mean == pytest.approx(0.04 / 3) and found.better == 3
    # The seeds' own spread of 0.1 is in both.
    assert found.error == pytest.approx(0.01 / 3, rel=1e-6)
    assert ablations.compared(change, base, "pixel_error").better == 0
    assert ablations.compared([0.5], [0.4], "accuracy").error is None
    variants = [ablations.Variant({}), ablations.Variant({"train.ema": {"decay": 0.9}})]
    for variant, values in zip(variants, (base, change), strict=True):
        variant.metrics.extend({"accuracy": value, "seconds": 7.0} for value in values)
    lines = ablations.table(variants, "accuracy").splitlines()
    assert lines[2] == "| as it is | 0.8000 (0.1000) |  |  | 7 |"
    assert lines[3].startswith("| train.ema: {decay: 0.9} | 0.8133 (0.1050) | +0.0133 ± 0.0033 | 3 of 3 | 7 |")
