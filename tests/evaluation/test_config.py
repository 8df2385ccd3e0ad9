from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.params import ParamsError
from trainyard.recipe import read_recipe

UNET = """\
recipes:
  cells:
    family: unet
    data: {source: image_masks, path: cells, classes: [membrane, cell]}
    model: {depth: 4}
    train: {epochs: 1, batch_size: 2, optimizer: adamw, learning_rate: 1e-3}
    evaluate:
      tile: {size: [256, 200], overlap: 64}
      flips: all
      rand_error: {foreground: cell}
    export: {}
"""


def said_of(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """Return what is said of the recipe after some changes, or nothing where it is good."""
    text = UNET
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    try:
        read_recipe(path, "cells")
    except ParamsError as error:
        return str(error)
    return ""


def test_tiles_flips_and_cells_are_read(tmp_path: Path) -> None:
    assert said_of(tmp_path) == ""
    assert said_of(tmp_path, ("[256, 200]", "256")) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[256, 200]", "[256, 64]", "line 8: recipes.cells.evaluate.tile: size 64 and overlap 64 leave nothing of a tile's"),
        ("{depth: 4}", "{depth: 4, padding: none}", "size 200 and overlap 64 leave nothing of a tile's"),
        ("overlap", "overlp", "did you mean 'overlap'?"),
        ("[256, 200]", "0", "recipes.cells.evaluate.tile.size: found 0"),
        ("flips: all", "flips: some", "recipes.cells.evaluate.flips: found 'some'"),
        ("foreground: cell", "foreground: cels", "line 10: recipes.cells.evaluate.rand_error: foreground: cels is no class"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in said_of(tmp_path, (old, new))


DIGITS = ("{source: image_masks, path: cells, classes: [membrane, cell]}", "{source: digits, path: requirements.lock}")
REVIEWS = (DIGITS[0], "{source: text_table, path: reviews.csv, text: text, label: label}")


def test_only_masks_have_tiles_and_cells(tmp_path: Path) -> None:
    found = said_of(tmp_path, ("family: unet", "family: cnn"), ("{depth: 4}", "{widths: [8]}"), DIGITS)
    for line, key in ((8, "tile"), (10, "rand_error")):
        assert f"line {line}: recipes.cells.evaluate.{key}: needs masks, which only family: unet learns" in found
    assert "flips" not in found


def test_only_images_are_flipped(tmp_path: Path) -> None:
    found = said_of(tmp_path, ("family: unet", "family: lstm"), ("{depth: 4}", "{hidden_size: 8}"), REVIEWS)
    assert "line 9: recipes.cells.evaluate.flips: all needs images" in found
