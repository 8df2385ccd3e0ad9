from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainyard.data.near_duplicates import find_alike
from trainyard.data.raw import RawDataset
from trainyard.data.splits import split_dataset

DATA = Path(os.environ.get("TRAINYARD_DATA", Path(__file__).parents[3] / "shared" / "data"))
TRAIN, PLANTED = 60, 5


def photograph(number: int) -> Image.Image:
    """Soft shapes and grain, as in a photograph, 64 x 64 in colour."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (64, 64, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


def channels_first(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 75": lambda image: as_jpeg(image, 75),
    "quality 30": lambda image: as_jpeg(image, 30),
    "half the size": lambda image: resized(image, 32),
    "three quarters of the size": lambda image: resized(image, 48),
    "brighter": lambda image: image.point(lambda value: min(255, value * 1.1 + 8)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "cropped by a pixel": lambda image: image.crop((1, 1, 63, 63)).resize((64, 64), Image.Resampling.BILINEAR),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_training_pictures_are_found_and_nothing_else(change: str) -> None:
    training = [photograph(number) for number in range(TRAIN)]
    others = [photograph(1000 + number) for number in range(20)]
    copies = [CHANGES[change](training[7 * number]) for number in range(PLANTED)]
    images = channels_first(training + others + copies)
    rows = np.arange(len(images))
    found = find_alike(images, {"train": rows[:TRAIN], "test": rows[TRAIN:]})
    assert [(pair.first, pair.second) for pair in found] == [(7 * number, TRAIN + 20 + number) for number in range(PLANTED)]


def test_copies_within_one_split_are_no_leak() -> None:
    images = channels_first([photograph(number) for number in range(40)] + [as_jpeg(photograph(3), 75)])
    assert find_alike(images, {"train": np.arange(41)}) == []
    assert find_alike(images, {"train": np.append(np.arange(20), 40), "test": np.arange(20, 40)}) == []


def test_flat_pictures_are_like_each_other_and_no_copies() -> None:
    images = np.repeat(np.arange(60, dtype=np.uint8), 3 * 32 * 32).reshape(60, 3, 32, 32)
    assert find_alike(images, {"train": np.arange(40), "test": np.arange(40, 60)}) == []


def test_the_pairs_stand_in_the_warnings_and_all_samples_stay() -> None:
    images = channels_first([photograph(number) for number in range(40)] + [as_jpeg(photograph(3), 75)])
    raw = RawDataset(
        kind="image_classification",
        classes=("a", "b"),
        arrays={"images": images, "labels": np.arange(41) % 2},
        about="",
        names=tuple(f"{number}.jpg" for number in range(41)),
        split=np.array([0] * 20 + [1] * 10 + [2] * 11),
    )
    splits = split_dataset(raw, val_fraction=0.1, test_fraction=0.2, seed=0)
    (told,) = splits.warnings
    assert (told.rule, told.severity) == ("alike-in-two-splits", "warning")
    assert told.found == "almost the same picture in two splits, 1 pair: 40.jpg (test) ~ 3.jpg (train)"
    assert sum(map(len, splits.indices.values())) == 41


def test_real_slices_of_a_tissue_raise_no_alarm() -> None:
    archive = DATA / "isbi2012-membrane.zip"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    with zipfile.ZipFile(archive) as packed:
        names = sorted(name for name in packed.namelist() if "/image/" in f"/{name}" and name.endswith(".png"))
        images = np.stack([np.asarray(Image.open(io.BytesIO(packed.read(name))).convert("L")) for name in names])[:, None]
    rows = np.random.default_rng(0).permutation(len(images))
    assert len(rows) == 30
    assert find_alike(images, {"train": rows[:20], "test": rows[20:]}) == []
