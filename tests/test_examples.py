from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard.recipe import read_recipe

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_recipe(path: Path, tmp_path: Path) -> None:
    block = YAML(typ="safe").load(path)
    YAML().dump({"recipes": {path.stem: block}}, tmp_path / "params.yaml")
    recipe = read_recipe(tmp_path / "params.yaml", path.stem)
    assert recipe.data.path.startswith("data/raw/")


def test_there_is_an_example_for_each_family() -> None:
    assert {YAML(typ="safe").load(path)["family"] for path in EXAMPLES} == {"cnn", "unet", "lstm"}
