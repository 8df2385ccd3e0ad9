from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.errors import InputError
from trainyard.recipe import Recipe, read_recipe
from trainyard.recipe_text import add_recipe
from trainyard.suggest import suggest

RANDOM = np.random.default_rng(0)


def draw(path: Path, width: int = 20, height: int = 16, channels: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)


def suggested(folder: Path, family: str, data: Path) -> Recipe:
    """Return the recipe that the suggestion becomes in a params.yaml."""
    add_recipe(folder / "params.yaml", "mine", suggest("mine", family, data, data.name))
    return read_recipe(folder / "params.yaml", "mine")


def test_a_folder_of_classes_becomes_a_recipe_that_says_what_it_saw(tmp_path: Path) -> None:
    for name, count in (("cat", 40), ("dog", 4)):
        for number in range(count):
            draw(tmp_path / "raw" / name / f"{number}.png")
    text = suggest("mine", "cnn", tmp_path / "raw", "raw")
    assert "# 44 images in 2 classes (cat 40, dog 4), 20 x 16 pixels." in text
    recipe = suggested(tmp_path, "cnn", tmp_path / "raw")
    assert isinstance(recipe.data, ImageFolderConfig)
    assert (recipe.data.size, recipe.data.channels, recipe.data.path) == (20, 3, "raw")
    assert recipe.train.class_weights == "balanced"


def test_photographs_of_many_sizes_are_scaled_to_one(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        for number in range(5):
            draw(tmp_path / "raw" / name / f"{number}.png", 60 + number, 50, channels=1)
    assert "from 60 x 50 to 64 x 50 pixels" in suggest("mine", "cnn", tmp_path / "raw", "raw")
    recipe = suggested(tmp_path, "cnn", tmp_path / "raw")
    assert isinstance(recipe.data, ImageFolderConfig)
    assert (recipe.data.size, recipe.data.channels) == (48, 1)


@pytest.mark.parametrize(("values", "classes", "meaning"), [((0, 255), 2, "binary"), ((0, 1, 2), 3, "ids")])
def test_masks_tell_the_classes(tmp_path: Path, values: tuple[int, ...], classes: int, meaning: str) -> None:
    for number in range(20):
        draw(tmp_path / "raw" / "images" / f"{number}.png", 32, 32, channels=1)
        mask = RANDOM.choice(np.array(values, dtype=np.uint8), (32, 32))
        (tmp_path / "raw" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "raw" / "masks" / f"{number}.png")
    recipe = suggested(tmp_path, "unet", tmp_path / "raw")
    assert isinstance(recipe.data, ImageMasksConfig)
    assert len(recipe.data.classes) == classes
    assert recipe.data.mask_values == meaning
    assert recipe.train.loss == "cross_entropy_dice"


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("cnn", "found 1 folders with 1 images; expected one folder for each class"),
        ("unet", "expected one mask for each image"),
        ("cmm", "family cmm: no such family; expected one of cnn, unet, lstm"),
    ],
)
def test_data_that_a_family_cannot_learn_from_are_refused(tmp_path: Path, family: str, said: str) -> None:
    draw(tmp_path / "raw" / "cat" / "0.png")
    with pytest.raises(InputError, match=said):
        suggest("mine", family, tmp_path / "raw", "raw")


def test_new_then_check_is_all_that_it_takes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(12):
            draw(tmp_path / "data" / "raw" / "pets" / name / f"{number}.png")

    def trainyard(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "trainyard.cli", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert "Next: trainyard check pets" in trainyard("new", "pets", "--family", "cnn", "--data", "data/raw/pets")
    assert "samples, no errors" in trainyard("check", "pets")
