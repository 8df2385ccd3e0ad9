"""What contradicts itself, its family, its data or its network is refused, naming both sides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from trainyard.data.packed import read_card
from trainyard.errors import InputError
from trainyard.models.spec import InputSpec
from trainyard.params import ParamsError
from trainyard.recipe import read_recipe, recipe_from_json
from trainyard.tasks.augment_config import AugmentConfig, foreign, oversized, used
from trainyard.tasks.train_config import TrainConfig, check_train

GREY = InputSpec(kind="image_classification", classes=("a", "b"), channels=1, height=8, width=12)


@pytest.fixture
def params(root: Path, tmp_path: Path) -> Path:
    """The project's own params.yaml, to change."""
    path = tmp_path / "params.yaml"
    path.write_text((root / "params.yaml").read_text())
    return path


def augment(path: Path, recipe: str, block: str) -> Path:
    """Give a recipe an `augment` block, whatever it had."""
    lines = path.read_text().replace("      augment:\n        token_dropout: 0.2\n", "").splitlines()
    start = lines.index(f"  {recipe}:")
    place = lines.index("    train:", start)
    path.write_text("\n".join([*lines[: place + 1], f"      {block}", *lines[place + 1 :]]) + "\n")
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (1.2, 0.8)}, r"scale: from 1.2 to 0.8 is no range"),
        ({"alternate_flip": True}, r"alternate_flip: true has nothing to alternate with flip: none"),
        ({"elastic_grid": 5}, r"elastic_grid: 5 has no meaning with elastic: 0"),
        ({"padding": "zeros", "flip": "both"}, r"padding: zeros has no meaning where nothing comes in from outside"),
        ({"rotate90": True, "crop": (8, 6)}, r"rotate90: true needs squares, found crop: \[8, 6\]"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"crop": (9, 8)}, "crop"),
        ({"crop": (8, 13)}, "crop"),
        ({"shift": 8}, "shift"),
        ({"rotate90": True}, "rotate90"),
        ({"cutout": 8}, "cutout"),
        ({"cutout": 4, "crop": (4, 4)}, "cutout"),
        ({"colour": 0.1}, "colour"),
    ],
)
def test_options_too_large_for_the_images_are_refused(options: dict[str, Any], key: str) -> None:
    assert [found[0] for found in oversized(AugmentConfig(**options), GREY)] == [f"augment.{key}"]


def test_options_as_large_as_the_images_allow_are_taken() -> None:
    assert oversized(AugmentConfig(shift=7, crop=(8, 12), cutout=7), GREY) == []
    assert oversized(AugmentConfig(rotate90=True, crop=(8, 8)), GREY) == []
    assert oversized(AugmentConfig(colour=0.1), dataclasses.replace(GREY, channels=3)) == []


def test_each_kind_of_data_has_its_own_options() -> None:
    both = AugmentConfig(shift=1, token_dropout=0.1, jitter=0.1, scale=(0.5, 1.0))
    assert {key for key, _, _ in foreign(both, "text_classification")} == {f"augment.{k}" for k in ("shift", "jitter", "scale")}
    assert {key for key, _, _ in foreign(both, "forecasting")} == {"augment.shift", "augment.token_dropout"}
    assert {key for key, _, _ in foreign(both, "segmentation")} == {"augment.token_dropout", "augment.jitter"}
    black = AugmentConfig(shift=1, padding="zeros")
    assert [key for key, _, _ in foreign(black, "segmentation")] == ["augment.padding"]
    assert foreign(black, "image_classification") == []


def test_a_training_on_unfit_images_is_refused_with_all_that_is_wrong(packed_digits: Path) -> None:
    spec = InputSpec.from_card(read_card(packed_digits))
    train = TrainConfig(
        epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0, augment=AugmentConfig(crop=(16, 16), colour=0.5)
    )
    with pytest.raises(InputError) as caught:
        check_train(train, spec)
    assert str(caught.value).splitlines() == [
        "train.augment.crop: [16, 16] is cut from images of 8 x 8 pixels; use at most [8, 8]",
        "train.augment.colour: 0.5 needs 3 channels, the data have 1; use brightness",
    ]
    check_train(dataclasses.replace(train, augment=AugmentConfig(shift=1)), spec)


@pytest.mark.parametrize(
    ("recipe", "block", "message"),
    [
        (
            "lstm",
            "augment: {shift: 2}",
            r"line \d+: recipes.lstm.train.augment.shift: 2 is for image_classification or segment",
        ),
        ("lstm", "augment: {rotate90: true}", r"augment.rotate90: true is for image_classification or segmentation, but the"),
        (
            "cnn",
            "augment: {token_dropout: 0.1}",
            r"augment.token_dropout: 0.1 is for text_classification, but the data are for",
        ),
        ("cnn", "augment: {crop: [2, 8]}", r"augment.crop: \[2, 8\] leaves too few pixels for the network's halvings; use at"),
        ("unet", "augment: {shift: 2, padding: zeros}", r"augment.padding: zeros shows pixels of no class.*use reflect"),
        ("unet", "augment: {elastik: 2}", r"augment.elastik: no such key; valid here: shift,.*did you mean 'elastic'"),
        ("unet", "augment: {scale: [1.1, 0.9]}", r"recipes.unet.train.augment: scale: from 1.1 to 0.9 is no range"),
        ("lstm", "word_dropout: 0.2", r"recipes.lstm.train.word_dropout: no such key; it is train.augment.token_dropout now"),
    ],
)
def test_a_recipe_with_what_it_cannot_do_is_refused_by_its_line(params: Path, recipe: str, block: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message) as caught:
        read_recipe(augment(params, recipe, block), recipe)
    number = next(n for n, line in enumerate(params.read_text().splitlines(), 1) if line.strip() == block)
    assert f"line {number}: " in str(caught.value)


def test_an_augmented_recipe_survives_its_own_json(params: Path) -> None:
    recipe = read_recipe(augment(params, "unet", "augment: {crop: [32, 48], scale: [0.9, 1.1], flip: both}"), "unet")
    assert recipe.train.augment == AugmentConfig(crop=(32, 48), scale=(0.9, 1.1), flip="both")
    assert recipe_from_json(recipe.to_json(), params) == recipe


def test_used_options_are_those_that_are_not_at_their_default() -> None:
    assert used(AugmentConfig()) == {}
    assert used(AugmentConfig(shift=2, scale=(0.9, 1.0))) == {"shift": 2, "scale": (0.9, 1.0)}
