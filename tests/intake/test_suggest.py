from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from ruamel.yaml import YAML

from trainyard.data.check import check
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.errors import InputError
from trainyard.intake.suggest import suggest
from trainyard.recipe import Recipe, read_recipe
from trainyard.recipe_text import add_recipe

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


def masks_of(folder: Path, values: np.ndarray, end: str = "png") -> Path:
    for number in range(20):
        draw(folder / "images" / f"{number}.png", 32, 32, channels=1)
        (folder / "masks").mkdir(exist_ok=True)
        mask = values[RANDOM.integers(0, len(values), (32, 32))]
        Image.fromarray(mask).save(folder / "masks" / f"{number}.{end}")
    return folder


def test_splits_within_the_folders_of_images_and_masks_are_told_of(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for side in ("images", "masks"):
            draw(tmp_path / "raw" / side / split / "0.png", 32, 32, channels=1)
            Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "raw" / side / split / "0.png")
    assert "val_fraction: 0.1 # for splits that have no folder; found train, val" in suggest(
        "x", "unet", tmp_path / "raw", "raw"
    )


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("train2017", "val2017"), ("trainset", "test_images")])
def test_folders_that_are_named_like_splits_do_not_become_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        draw(tmp_path / "raw" / name / "cat" / "0.png")
    with pytest.raises(InputError, match=f"folders {names[0]}, {names[1]}, which are named like splits and would be classes"):
        suggest("mine", "cnn", tmp_path / "raw", "raw")


def carvana(folder: Path, mask: np.ndarray, suffix: str = "_mask") -> Path:
    for number in range(6):
        draw(folder / "train" / f"{number}.jpg", 32, 32)
        (folder / "train_masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "train_masks" / f"{number}{suffix}.png")
    return folder


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_photographs_and_their_masks_do_not_become_two_classes(tmp_path: Path, suffix: str) -> None:
    raw = carvana(tmp_path / "raw", np.eye(32, dtype=np.uint8) * 255, suffix)
    assert "family: unet # for train/ and train_masks/" in suggest("mine", "", raw, "raw")
    recipe = suggested(tmp_path, "", raw)
    assert isinstance(recipe.data, ImageMasksConfig)
    assert (recipe.data.images, recipe.data.masks, recipe.data.mask_suffix) == ("train", "train_masks", suffix)
    assert sum(check(recipe.data, tmp_path).samples.values()) == 6


def test_classes_of_drawings_and_photographs_are_no_masks(tmp_path: Path) -> None:
    for number in range(6):
        draw(tmp_path / "raw" / "photo" / f"{number}.jpg", 32, 32)
        draw(tmp_path / "raw" / "noise" / f"{number}.png", 32, 32, channels=1)
        (tmp_path / "raw" / "icon").mkdir(exist_ok=True)
        Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / "raw" / "icon" / f"{number}.png")
    assert isinstance(suggested(tmp_path, "", tmp_path / "raw").data, ImageFolderConfig)


def test_soft_edges_of_masks_do_not_become_classes(tmp_path: Path) -> None:
    shape = Image.new("L", (64, 64))
    ImageDraw.Draw(shape).ellipse((8, 8, 52, 52), fill=255)
    soft = np.asarray(shape.filter(ImageFilter.GaussianBlur(1)))
    for number in range(3):
        draw(tmp_path / "raw" / "images" / f"{number}.png", 64, 64)
        (tmp_path / "raw" / "masks").mkdir(exist_ok=True)
        Image.fromarray(soft).save(tmp_path / "raw" / "masks" / f"{number}.png")
    with pytest.raises(InputError, match=r"greys between 0 and 255, as soft edges .*; save them anew with 0 and 255 alone"):
        suggest("mine", "unet", tmp_path / "raw", "raw")


def test_numbers_of_single_objects_are_pointed_at(tmp_path: Path) -> None:
    for number in range(2, 9):
        draw(tmp_path / "raw" / "images" / f"{number}.png", 32, 32)
        (tmp_path / "raw" / "masks").mkdir(exist_ok=True)
        Image.fromarray((np.arange(1024) % number).astype(np.uint8).reshape(32, 32)).save(
            tmp_path / "raw" / "masks" / f"{number}.png"
        )
    assert "in each mask from 1 on: if these number single objects" in suggest("mine", "unet", tmp_path / "raw", "raw")


@pytest.mark.parametrize(
    ("width", "height", "size", "resize"),
    [
        (128, 32, (32, 128), "pad"),
        (32, 96, (96, 32), "pad"),
        (1000, 100, (64, 256), "pad"),
        (150, 600, (256, 64), "pad"),
        (60, 40, 60, "crop"),
    ],
)
def test_long_images_are_not_cut_to_their_middle(tmp_path: Path, width: int, height: int, size: object, resize: str) -> None:
    for name in ("cat", "dog"):
        for number in range(4):
            draw(tmp_path / "raw" / name / f"{number}.png", width, height)
    data = suggested(tmp_path, "cnn", tmp_path / "raw").data
    assert isinstance(data, ImageFolderConfig) and (data.size, data.resize) == (size, resize)


def test_where_folders_are_no_classes_it_is_said_what_to_name_or_to_move(tmp_path: Path) -> None:
    for place in ("deep/Pets/cat/0.png", "deep/Pets/dog/0.png", "flat/images/0.png", "kaggle/train/0.png"):
        draw(tmp_path / place)
    for place in ("flat/labels.csv", "kaggle/train.csv"):
        (tmp_path / place).write_text("id,label\n0,cat\n")
    for number, name in enumerate(("images.npy", "train-images-idx3-ubyte.gz", "data_batch_1.bin")):
        (tmp_path / f"files{number}").mkdir()
        (tmp_path / f"files{number}" / name).touch()
    for name in ("cat", "dog"):
        (tmp_path / "phone" / name).mkdir(parents=True)
        (tmp_path / "phone" / name / "0.heic").write_bytes(b"x")
    for place, said in (
        (
            "phone",
            "found 2 folders with 0 images; .*; of what lies there, .*/0.heic: a .heic file; save it as PNG, JPEG or TIFF",
        ),
        ("files0", "numpy_arrays reads images.npy: copy a recipe in params.yaml and name that under data.source"),
        ("files1", "idx_files reads train-images-idx3-ubyte.gz"),
        ("files2", "cifar_files reads data_batch_1.bin"),
        ("deep", "these lie in Pets/, so name .*deep/Pets"),
        ("flat", "labels in a table, such as labels.csv, are not read: move each image into the folder of its class"),
        ("kaggle", "1 images lie in no folder of a class; labels in a table, such as train.csv, are not read"),
    ):
        with pytest.raises(InputError, match=said):
            suggest("mine", "", tmp_path / place, place)


@pytest.mark.parametrize("named", [False, True])
def test_colours_of_masks_become_classes_with_the_names_that_stand_beside_them(tmp_path: Path, named: bool) -> None:
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], dtype=np.uint8)
    raw = masks_of(tmp_path / "raw", colours)
    if named:
        (raw / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog: x\n")
    recipe = suggested(tmp_path, "unet", raw)
    assert isinstance(recipe.data, ImageMasksConfig)
    cat, other = ("cat", "class_1") if named else ("class_2", "class_1")
    assert recipe.data.mask_values == {"background": (0, 0, 0), other: (51, 221, 255), cat: (250, 50, 83)}
    assert sum(check(recipe.data, tmp_path).samples.values()) > 0


def test_values_far_apart_become_no_classes_that_are_never_seen(tmp_path: Path) -> None:
    recipe = suggested(tmp_path, "unet", masks_of(tmp_path / "raw", np.array([0, 128, 255], dtype=np.uint8)))
    assert isinstance(recipe.data, ImageMasksConfig)
    assert recipe.data.mask_values == {"background": 0, "class_128": 128, "class_255": 255}


def test_masks_that_the_checks_read_are_looked_at_whatever_their_pixels(tmp_path: Path) -> None:
    grey_in_colours = np.array([[0, 0, 0], [1, 1, 1]], dtype=np.uint8)
    assert "mask_values: ids" in suggest("mine", "unet", masks_of(tmp_path / "raw", grey_in_colours), "raw")
    sixteen_bits = np.array([0, 1, 2], dtype=np.uint16)
    assert "class_2]" in suggest("mine", "unet", masks_of(tmp_path / "wide", sixteen_bits), "wide")


def test_damaged_masks_are_left_to_the_checks(tmp_path: Path) -> None:
    raw = masks_of(tmp_path / "raw", np.array([0, 1], dtype=np.uint8))
    (raw / "masks" / "0.png").write_bytes(b"")
    cut = raw / "masks" / "1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    assert "found [0, 1]" in suggest("mine", "unet", raw, "raw")


@pytest.mark.parametrize(
    ("values", "end", "said"),
    [
        (
            np.array([0, 255], dtype=np.uint8),
            "jpg",
            r"masks/0\.jpg: a JPEG, which changes the ids at every edge; save masks as PNG",
        ),
        (
            RANDOM.integers(0, 256, (999, 3), dtype=np.uint8),
            "png",
            r"colours in masks; expected one for each class, 256 at most",
        ),
        (np.arange(300, dtype=np.uint16), "png", "300 different values, from 0 to 299"),
    ],
)
def test_masks_that_tell_no_classes_are_refused(tmp_path: Path, values: np.ndarray, end: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        suggest("mine", "unet", masks_of(tmp_path / "raw", values, end), "raw")


def test_folders_are_taken_as_the_checks_take_them(tmp_path: Path) -> None:
    for name in ("train", "bus/red", "bus/blue"):
        draw(tmp_path / "raw" / name / "0.png")
    assert "2 classes (bus 2, train 1)" in suggest("mine", "cnn", tmp_path / "raw", "raw")
    for name in ("test/cat", "test/dog", "val/cat", "val/dog"):
        draw(tmp_path / "tested" / name / "0.png")
    with pytest.raises(InputError, match="folders test, val alone; add a folder train"):
        suggest("mine", "cnn", tmp_path / "tested", "tested")


def test_a_pipe_among_images_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / "raw" / name / "0.png")
    os.mkfifo(tmp_path / "raw" / "cat" / "1.png")
    assert "cat 1, dog 1" in suggest("mine", "cnn", tmp_path / "raw", "raw")


def test_a_tiny_image_is_enlarged_so_that_it_can_be_halved(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / "raw" / name / "0.png", 3, 3)
    assert "size: 32" in suggest("mine", "cnn", tmp_path / "raw", "raw")


def test_16_bits_of_either_byte_order_are_grey(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        Image.fromarray(RANDOM.integers(0, 2**16, (16, 16)).astype(">u2")).save(tmp_path / "raw" / name / "0.tif")
    assert "channels: 1 # grey" in suggest("mine", "cnn", tmp_path / "raw", "raw")


@pytest.mark.parametrize(
    "name", ["my cats #1", "it's: mine", "two\nlines", "1e3", "null", "-x", "{a}", "a\tb", "\U0001f469\u200d\U0001f4bb"]
)
def test_names_of_folders_and_classes_stand_in_the_recipe_as_they_are(tmp_path: Path, name: str) -> None:
    for folder in (f"x\nfamily: {name}", "dog"):
        draw(tmp_path / name / folder / "0.png")
    recipe = suggested(tmp_path, "cnn", tmp_path / name)
    assert recipe.data.path == name
    # DVC reads the same file, and makes paths of it.
    assert YAML(typ="safe").load(tmp_path / "params.yaml")["recipes"]["mine"]["data"]["path"] == name


def test_a_name_that_is_no_text_is_refused_as_such(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for folder in ("cat", "dog"):
        draw(tmp_path / name / folder / "0.png")
    with pytest.raises(InputError, match=r"caf\\udce9: a name that is not UTF-8"):
        suggest("mine", "cnn", tmp_path / name, name)


def test_a_family_that_is_left_out_is_that_of_what_is_there(tmp_path: Path) -> None:
    for place in ("pets/cat/0.png", "pets/dog/0.png", "cells/images/0.png", "cells/masks/0.png"):
        draw(tmp_path / place, 32, 32, channels=1)
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / "cells/masks/0.png")
    (tmp_path / "parts").mkdir()
    for place in ("moods.csv", "parts/train.csv", "parts/test.csv"):
        rows = "".join(f"a day of {number},{'good' if number % 2 else 'bad'}\n" for number in range(40))
        (tmp_path / place).write_text(f"text,label\n{rows}")
    found = {place: suggest("mine", "", tmp_path / place, place) for place in ("pets", "cells", "moods.csv", "parts")}
    families = {place: next(line.strip() for line in text.splitlines() if "family:" in line) for place, text in found.items()}
    assert families == {
        "pets": "family: cnn # for a folder of images by class",
        "cells": "family: unet # for images/ and masks/",
        "moods.csv": "family: lstm # for a table",
        "parts": "family: lstm # for tables",
    }


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("cnn", "found 1 folder with 1 images; expected one folder for each class"),
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
