from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import Split
from trainyard.evaluation.augmentation_figure import WIDTHS, augmented_samples
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.train_config import TrainConfig


def saved(augment: AugmentConfig, spec: InputSpec, epochs: int = 2) -> SavedModel:
    """Return a model that says what a figure needs; its network is not asked."""
    recipe = Recipe(
        name="any",
        family="cnn",
        data=DigitsConfig(source="digits"),
        model=CNNConfig(widths=(4,)),
        train=TrainConfig(epochs=epochs, batch_size=8, optimizer="sgd", learning_rate=0.1, augment=augment),
        evaluate=EvaluateConfig(),
        export=ExportConfig(),
    )
    return SavedModel(torch.nn.Identity(), recipe, spec, "f")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


IMAGES = InputSpec(kind="image_classification", classes=("dark", "bright", "grey"), mean=(0.5,), std=(0.25,))


def test_images_are_drawn_as_each_epoch_saw_them(tmp_path: Path, image_split: Split) -> None:
    some = AugmentConfig(shift=2, rotate=20.0, noise=0.1, crop=(5, 4))
    first = pixels(augmented_samples(saved(some, IMAGES), image_split, tmp_path, tmp_path / "a.png"))
    again = pixels(augmented_samples(saved(some, IMAGES), image_split, tmp_path, tmp_path / "b.png"))
    other = pixels(augmented_samples(saved(replace(some, noise=0.3), IMAGES), image_split, tmp_path, tmp_path / "c.png"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_more_epochs_are_drawn_than_were_trained(tmp_path: Path, image_split: Split) -> None:
    widths = [
        pixels(
            augmented_samples(saved(AugmentConfig(shift=1), IMAGES, epochs), image_split, tmp_path, tmp_path / "a.png")
        ).shape[1]
        for epochs in (1, 2, 30)
    ]
    assert widths[1] - widths[0] == pytest.approx(WIDTHS["image_classification"] * 110, abs=2)
    assert widths[2] - widths[0] == pytest.approx(6 * WIDTHS["image_classification"] * 110, abs=2)


def test_wide_images_have_low_rows_and_more_room_each(tmp_path: Path, image_split: Split) -> None:
    square = pixels(augmented_samples(saved(AugmentConfig(shift=1), IMAGES, 7), image_split, tmp_path, tmp_path / "a.png"))
    image_split.arrays["images"] = np.full((40, 1, 6, 120), 200, dtype=np.uint8)
    wide = pixels(augmented_samples(saved(AugmentConfig(shift=1), IMAGES, 7), image_split, tmp_path, tmp_path / "a.png"))
    assert wide.shape[1] == pytest.approx(square.shape[1], abs=2)
    assert wide.shape[0] < 0.6 * square.shape[0]
    # As wide as two squares are.
    assert (wide == 200).all(axis=2).sum(axis=1).max() > 4 * 1.8 * WIDTHS["image_classification"] * 110


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_masks_are_drawn_over_their_images(tmp_path: Path, mask_split: Split, channels: int) -> None:
    mask_split.arrays["images"] = np.repeat(mask_split.arrays["images"], channels, axis=1)
    spec = InputSpec(kind="segmentation", classes=("none", "high", "low"), mean=(0.5,) * channels, std=(0.25,) * channels)
    drawn = pixels(augmented_samples(saved(AugmentConfig(flip="both"), spec), mask_split, tmp_path, tmp_path / "a.png"))
    coloured = np.ptp(drawn.astype(int), axis=2) > 30
    assert coloured.mean() > 0.02


def test_series_are_drawn_as_lines_over_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "values": rng.normal(size=(80, 3)).astype(np.float32),
        "starts": np.arange(50),
        "window": np.array([9, 4, 2]),
        "mean": np.array([5.0, 6.0, 7.0]),
        "std": np.array([1.0, 2.0, 3.0]),
    }
    spec = InputSpec(kind="forecasting", classes=("load", "$heat$"))
    split = Split("forecasting", "train", arrays)
    drawn = pixels(augmented_samples(saved(AugmentConfig(jitter=0.2), spec), split, tmp_path, tmp_path / "a.png"))
    assert (np.ptp(drawn.astype(int), axis=2) > 60).mean() > 0.001


def test_texts_are_written_with_gaps_for_what_was_dropped(tmp_path: Path, text_split: Split) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{f"word{number}": number for number in range(2, 30)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    spec = InputSpec(kind="text_classification", classes=("good", "bad"))
    whole, gaps = (
        pixels(augmented_samples(saved(AugmentConfig(token_dropout=share), spec), text_split, tmp_path, tmp_path / "a.png"))
        for share in (0.0, 0.9)
    )
    # Gaps are thin lines, so there is less ink.
    assert (gaps[60:] < 128).sum() < (whole[60:] < 128).sum()
