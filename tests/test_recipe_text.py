from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard.errors import InputError
from trainyard.recipe import read_all
from trainyard.recipe_text import add_recipe, copied, inserted, rewritten, yaml_of

ROOT = Path(__file__).parents[1]
BLOCK = """\
cats:
  family: cnn
  data: {source: digits, path: requirements.lock}
  model: {widths: [8]} # narrow
  train: {epochs: 1, batch_size: 8, optimizer: adam, learning_rate: 1e-3}
  evaluate: {}
  export: {}
"""


def test_a_recipe_is_added_to_the_projects_own_file_and_nothing_else_changes(root: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    before = (root / "params.yaml").read_text()
    params.write_text(before)
    add_recipe(params, "cats", BLOCK)
    after = params.read_text()
    assert [recipe.name for recipe in read_all(params)[0]] == ["cnn", "unet", "lstm", "cats"]
    lines = after.splitlines()
    assert "    model: {widths: [8]} # narrow" in lines
    without = after.replace("\n" + "".join(f"  {line}\n" for line in BLOCK.splitlines()), "", 1)
    assert without == before


@pytest.mark.parametrize("text", ["recipes:\n", "recipes:", "recipes:\n\ncluster: {workers: 0}\n", "# mine\nrecipes: # all\n"])
def test_the_first_recipe_finds_its_place(text: str) -> None:
    values = YAML(typ="safe", pure=True).load(inserted(text, "cats", BLOCK))
    assert list(values["recipes"]) == ["cats"]


def test_comments_of_the_next_key_stay_with_it() -> None:
    text = "recipes:\n    a:\n        family: cnn\n    # done\n\n# where it runs\ncluster:\n  workers: 0\n"
    after = inserted(text, "b", "b:\n  family: unet")
    assert after.index("family: unet") < after.index("# where it runs") < after.index("cluster:")
    assert list(YAML(typ="safe", pure=True).load(after)["recipes"]) == ["a", "b"]


def test_a_file_with_the_line_ends_of_windows_keeps_them(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    plain = (ROOT / "params.yaml").read_text()
    params.write_bytes(plain.replace("\n", "\r\n").encode())
    add_recipe(params, "cats", BLOCK)
    after = params.read_bytes().decode()
    assert after == inserted(plain, "cats", BLOCK).replace("\n", "\r\n")
    for changes in ({"model.widths": [9]}, {"train.label_smoothing": 0.25}):
        for name in ("cnn", "cats"):
            assert rewritten(after, name, changes) == rewritten(after.replace("\r\n", "\n"), name, changes).replace(
                "\n", "\r\n"
            )


def test_there_is_a_params_file_afterwards_where_there_was_none(tmp_path: Path) -> None:
    add_recipe(tmp_path / "params.yaml", "cats", BLOCK)
    assert read_all(tmp_path / "params.yaml")[0][0].name == "cats"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipes:\n  cats: {}\n", "has a recipe 'cats' already"),
        ("recipes: {a: {}}\n", "written in braces"),
        ("cluster: {}\n", "has no `recipes:` to add to"),
        ("recipes:\n  - a\n", "params.yaml:2: `recipes:` holds no recipes by name"),
        ("recipes: ~\n", "params.yaml:1: `recipes:` holds no recipes by name"),
        ("recipes:\n  a: [\n", "params.yaml:3: .*mend the YAML"),
        ("recipes:\n# \x07\n", "params.yaml:2: holds the control character"),
    ],
)
def test_what_cannot_be_added_is_said_and_the_file_stays(tmp_path: Path, text: str, said: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(text)
    with pytest.raises(InputError, match=said):
        add_recipe(params, "cats", BLOCK)
    assert params.read_text() == text


@pytest.mark.parametrize("name", ["2024", "null", "1e3", "no"])
def test_a_name_that_yaml_would_read_as_a_number_or_as_nothing_is_written_in_quotes(tmp_path: Path, name: str) -> None:
    params = tmp_path / "params.yaml"
    add_recipe(params, name, BLOCK.replace("cats", name))
    assert [recipe.name for recipe in read_all(params)[0]] == [name]
    assert (f'  "{name}":' in params.read_text().splitlines()) == (name != "no")


def test_a_block_that_is_no_recipe_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    with pytest.raises(InputError, match=r"params.yaml has 1 problem(.|\n)*recipes.cats.train.epochs"):
        add_recipe(params, "cats", BLOCK.replace("epochs: 1", "epochs: none"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("place", ["data/raw/mine", "data/raw/my own: data #1", "12", '../ä"b'])
def test_an_example_is_copied_with_its_comments_for_data_elsewhere(path: Path, place: str, tmp_path: Path) -> None:
    add_recipe(tmp_path / "params.yaml", "mine", copied(path, "mine", place))
    text = (tmp_path / "params.yaml").read_text()
    values = YAML(typ="safe", pure=True).load(text)["recipes"]["mine"]
    expected = YAML(typ="safe", pure=True).load(path.read_text())
    assert values == {**expected, "data": {**expected["data"], "path": place}}
    assert path.read_text().splitlines()[0] in text


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"a: [", b"family: cnn\ndata: here\n"])
def test_a_file_that_is_no_recipe_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "like.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"like\.yaml(: cannot be read|: holds no recipe|:1: expected)[^\n]*; name [^\n]*$"):
        copied(tmp_path / "like.yaml", "mine", "data")


VALUES = """\
recipes:
  a:
    model:
      widths:
        - 1 # one
        - 2
      # after the widths

    train: {epochs: 3, batch_size: 2}   # all in one line
    # at the end
  b: {train: {epochs: 3}}
"""


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"train.epochs": 30}, "{epochs: 3, batch", "{epochs: 30, batch"),
        ({"train.learning_rate": 1.5e-5}, "batch_size: 2}   #", "batch_size: 2, learning_rate: 1.5e-5}   #"),
        ({"train.augment.shift": 2}, "batch_size: 2}   #", "batch_size: 2, augment: {shift: 2}}   #"),
        ({"model.widths": [3, 4]}, "- 1 # one\n        - 2", "[3, 4]"),
        ({"model.dropout": 0.0}, "        - 2\n", "        - 2\n      dropout: 0.0\n"),
        ({"model.activation": "relu"}, "        - 2\n", "        - 2\n      activation: relu\n"),
        ({"model.nesterov": True}, "        - 2\n", "        - 2\n      nesterov: true\n"),
    ],
)
def test_a_value_is_changed_and_everything_else_stays(changes: dict[str, object], old: str, new: str) -> None:
    assert old in VALUES
    assert rewritten(VALUES, "a", changes) == VALUES.replace(old, new)


def test_many_values_are_changed_in_the_projects_own_file(root: Path, tmp_path: Path) -> None:
    before = (root / "params.yaml").read_text()
    changes = {"train.learning_rate": 1.23e-3, "model.widths": [16, 32, 64], "train.label_smoothing": 0.07}
    after = rewritten(before, "cnn", changes)
    (tmp_path / "params.yaml").write_text(after)
    recipe = read_all(tmp_path / "params.yaml")[0][0]
    assert (recipe.train.learning_rate, recipe.train.label_smoothing) == (1.23e-3, 0.07)
    assert recipe.model.widths == (16, 32, 64)  # type: ignore[union-attr]
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(changed) == 3 and len(after.splitlines()) == len(before.splitlines()) + 1


def test_what_has_no_place_is_said() -> None:
    with pytest.raises(InputError, match=r"recipes\.b\.train\.epochs is no mapping; write .*epochs\.more by hand"):
        rewritten(VALUES, "b", {"train.epochs.more": 1})


@pytest.mark.parametrize(
    "value", [1e-5, 0.003, 3.0, 1e22, 0.1 + 0.2, -2, True, None, "max", "true", "a b", [1, [2.5]], {"a": 1}]
)
def test_a_value_is_read_again_as_it_was(value: object) -> None:
    found = YAML(typ="safe", pure=True).load(f"key: {yaml_of(value)}")["key"]
    assert found == value and type(found) is type(value)
