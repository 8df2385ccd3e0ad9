"""What can be wrong with images and their masks, one fault a case: which rule finds it, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.data import image_pieces
from trainyard.data.image_masks import ImageMasksConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset

IDS = np.zeros((6, 8), dtype=np.uint8)
IDS[1:, :3] = 1
IDS[0, 5:] = 2
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)


def save(pixels: np.ndarray[Any, Any] | Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        save(IDS * 90, tmp_path / "cells" / "images" / f"{name}.bmp")
        save(IDS, tmp_path / "cells" / "masks" / f"{name}.png")
    return tmp_path / "cells"


def read(folder: Path, progress: Callable[[str], None] | None = None, **changes: Any) -> RawDataset:
    values = {"source": "image_masks", "path": folder.name, "classes": ("ground", "cell", "dust"), **changes}
    return load(ImageMasksConfig(**values), folder.parent, folder.parent / "scratch", progress=progress, workers=1)


def palette() -> Image.Image:
    image = Image.fromarray(IDS)
    image.putpalette(COLOURS.ravel().tolist())
    return image


Fault = Callable[[Path], object]
FAULTS: dict[str, tuple[Fault, set[tuple[str, str]], str]] = {
    "a pixel too narrow": (
        lambda folder: save(IDS[:, 1:], folder / "masks" / "b.png"),
        {("size-mismatch", "masks/b.png")},
        "6 x 7 pixels high and wide; images/b.bmp has 6 x 8",
    ),
    "a pixel too high": (
        lambda folder: save(np.pad(IDS, ((0, 1), (0, 0))), folder / "masks" / "b.png"),
        {("size-mismatch", "masks/b.png")},
        "7 x 8 pixels high and wide; images/b.bmp has 6 x 8",
    ),
    "lying instead of standing": (
        lambda folder: save(IDS.T.copy(), folder / "masks" / "b.png"),
        {("size-mismatch", "masks/b.png")},
        "images/b.bmp has 6 x 8: make them the same; images are turned as their camera notes, so turn the mask",
    ),
    "no mask": (
        lambda folder: (folder / "masks" / "b.png").unlink(),
        {("missing-mask", "images/b.bmp")},
        "no mask of this name in masks/; add it, or take this file out",
    ),
    "no image": (
        lambda folder: (folder / "images" / "b.bmp").unlink(),
        {("missing-image", "masks/b.png")},
        "no image of this name in images/; add it, or take this file out",
    ),
    "a name in capitals": (
        lambda folder: (folder / "masks" / "b.png").rename(folder / "masks" / "B.png"),
        {("missing-mask", "images/b.bmp"), ("missing-image", "masks/B.png")},
        "masks/B.png differs in case only: rename one of them",
    ),
    "two masks of one image": (
        lambda folder: save(IDS, folder / "masks" / "b.tif"),
        {("twin-names", "masks/b.tif")},
        "the same name as masks/b.png; keep one, or rename it",
    ),
    "a value without a class": (
        lambda folder: save(np.where(IDS == 2, 7, IDS).astype(np.uint8), folder / "masks" / "b.png"),
        {("mask-values", "masks/b.png")},
        "values without a class: 7 (3 pixels); if that is what they mean, set data.mask_values: {ground: 0, cell: 1, dust: 7}",
    ),
    "values between two ids": (
        lambda folder: save(np.arange(48, dtype=np.uint8).reshape(6, 8), folder / "masks" / "b.png"),
        {("mask-values", "masks/b.png")},
        "known are 3 classes: name more under data.classes, or mend the mask",
    ),
    "a value of 16 bits": (
        lambda folder: save(IDS.astype(np.uint16) * 300, folder / "masks" / "b.png"),
        {("mask-values", "masks/b.png")},
        "values without a class: 300 (15 pixels), 600 (3 pixels)",
    ),
    "floats": (
        lambda folder: (
            (folder / "masks" / "b.png").unlink(),
            save(IDS.astype(np.float32), folder / "masks" / "b.tif"),
        ),
        {("mask-values", "masks/b.tif")},
        "save the ids as whole numbers of 8 or 16 bits",
    ),
    "colours": (
        lambda folder: save(COLOURS[IDS], folder / "masks" / "b.png"),
        {("mask-colours", "masks/b.png")},
        "[0, 0, 0] (30 pixels), [255, 0, 0] (15 pixels), [0, 0, 255] (3 pixels); say which class each one is",
    ),
    "a JPEG": (
        lambda folder: ((folder / "masks" / "b.png").unlink(), save(IDS, folder / "masks" / "b.jpg")),
        {("lossy-mask", "masks/b.jpg")},
        "a JPEG, which changes the ids at every edge; save masks as PNG",
    ),
    "a damaged mask and image": (
        lambda folder: [
            path.write_bytes(path.read_bytes()[:-13]) for path in (folder / "masks" / "b.png", folder / "images" / "b.bmp")
        ],
        {("damaged-image", "masks/b.png"), ("damaged-image", "images/b.bmp")},
        "damaged PNG: cut off at byte",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mask_that_does_not_fit_is_refused_at_its_place_or_left_out(folder: Path, fault: str) -> None:
    make, expected, said = FAULTS[fault]
    make(folder)
    # The size is set, so nothing of this is found for want of a common one.
    with pytest.raises(DataError) as caught:
        read(folder, size=8, channels=1)
    assert {(problem.rule, problem.where) for problem in caught.value.problems} == expected
    assert caught.value.exit_code == 2 and said in str(caught.value)
    if all(problem.sample for problem in caught.value.problems):
        raw = read(folder, on_bad_sample="skip")
        assert raw.names == ("images/a.bmp", "images/c.bmp")
        assert {problem.where for problem in raw.skipped} == {where for _, where in expected}


def test_masks_of_0_and_255_are_counted_file_by_file_and_the_mapping_is_suggested(folder: Path) -> None:
    for name in "abc":
        save((IDS > 0).astype(np.uint8) * 255, folder / "masks" / f"{name}.png")
    with pytest.raises(DataError) as caught:
        read(folder, classes=("ground", "cell"))
    assert [problem.where for problem in caught.value.problems] == [f"masks/{name}.png" for name in "abc"]
    assert str(caught.value).count("values without a class: 255 (18 pixels); set data.mask_values: binary") == 3


def test_a_palette_gives_its_ids_and_not_its_greys(folder: Path) -> None:
    for name in "abc":
        save(palette(), folder / "masks" / f"{name}.png")
    assert np.array_equal(read(folder).arrays["masks"], [IDS] * 3)


def test_masks_of_the_background_alone_and_of_one_class_alone_are_told_with_their_shares(folder: Path) -> None:
    save(IDS * 0, folder / "masks" / "a.png")
    save(IDS * 0 + 2, folder / "masks" / "b.png")
    for scratch in ("new", "as an interrupted run left it"):
        raw = read(folder)
        assert [(warning.rule, warning.found) for warning in raw.warnings] == [
            ("empty-masks", "1 of 3 masks (33%) show nothing but ground"),
            ("uniform-masks", "1 of 3 masks (33%) show one class only (dust)"),
        ], scratch


def test_a_mask_that_changes_while_the_folder_is_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pieces, "PROGRESS_SECONDS", 0.0)
    with pytest.raises(DataError) as caught:
        read(folder, lambda told: save(palette(), folder / "masks" / "c.png") if told.startswith("looked at") else None)
    assert [(problem.rule, problem.where) for problem in caught.value.problems] == [("changed-while-read", "masks/c.png")]


def test_masks_in_another_split_than_their_images_are_listed(folder: Path, tmp_path: Path) -> None:
    for side in ("images", "masks"):
        for split, name in (("train", "a"), ("test", "b")):
            path = next((folder / side).glob(f"{name}.*"))
            (tmp_path / "split" / split / side).mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "split" / split / side / path.name)
    root = tmp_path / "split"
    assert len(read(root)) == 2
    (root / "train" / "masks" / "a.png").rename(root / "test" / "masks" / "a.png")
    with pytest.raises(DataError) as caught:
        read(root)
    assert {(problem.rule, problem.where) for problem in caught.value.problems} == {
        ("missing-mask", "train/images/a.bmp"),
        ("missing-image", "test/masks/a.png"),
    }
