from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.data import image_files
from trainyard.data.image_masks import ImageMasksConfig, load
from trainyard.data.problems import DataError
from trainyard.data.raw import RawDataset

IDS = np.zeros((4, 6), dtype=np.uint8)
IDS[1:, :3] = 1
IDS[0, 5] = 2


def save(pixels: np.ndarray[Any, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        save(IDS * 90, tmp_path / "cells" / "images" / f"{name}.bmp")
        save(IDS, tmp_path / "cells" / "masks" / f"{name}.png")
    return tmp_path / "cells"


@pytest.fixture
def membranes(tmp_path: Path, real_data: Path) -> Path:
    with zipfile.ZipFile(real_data / "isbi2012-membrane.zip") as file:
        file.extractall(tmp_path / "isbi2012")
    return tmp_path / "isbi2012"


def read(folder: Path, **changes: Any) -> RawDataset:
    values = {"source": "image_masks", "path": folder.name, "classes": ("ground", "cell", "dust"), **changes}
    return load(ImageMasksConfig(**values), folder.parent, folder.parent / "scratch", workers=1)


def rules(folder: Path, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(DataError) as caught:
        read(folder, **changes)
    return [(problem.rule, str(problem)) for problem in caught.value.problems]


def test_images_and_masks_are_paired_by_name(folder: Path) -> None:
    raw = read(folder)
    assert raw.kind == "segmentation" and raw.arrays["images"].shape == (3, 1, 4, 6)
    assert np.array_equal(raw.arrays["masks"], [IDS] * 3)
    assert raw.strata is not None and raw.strata.tolist() == [1, 1, 1]
    assert raw.names == ("images/a.bmp", "images/b.bmp", "images/c.bmp") and not raw.warnings


def test_folders_of_splits_are_kept(folder: Path) -> None:
    parent = folder.rename(folder.with_name("old"))
    for name in ("train", "val", "test"):
        for side, pixels in (("images", IDS), ("masks", IDS)):
            save(pixels, parent / name / side / "a.png")
    for side in ("images", "masks"):
        for path in (parent / side).iterdir():
            path.unlink()
        (parent / side).rmdir()
    raw = read(parent)
    assert raw.split is not None and sorted(raw.split.tolist()) == [0, 1, 2]


def test_folders_of_splits_within_those_of_images_and_masks_are_kept(folder: Path) -> None:
    for side, end in (("images", "bmp"), ("masks", "png")):
        for name, split in (("a", "train"), ("b", "Valid"), ("c", "testing")):
            (folder / side / split).mkdir()
            (folder / side / f"{name}.{end}").rename(folder / side / split / f"{name}.{end}")
    raw = read(folder)
    assert raw.split is not None and dict(zip(raw.names, raw.split.tolist(), strict=True)) == {
        "images/train/a.bmp": 0,
        "images/Valid/b.bmp": 1,
        "images/testing/c.bmp": 2,
    }
    assert [rule for rule, _ in rules(folder, split_by="order")] == ["split-twice"]
    for side, end in (("images", "bmp"), ("masks", "png")):
        (folder / side / "train" / f"a.{end}").rename(folder / side / f"a.{end}")
    assert len(read(folder)) == 3  # without train there, these are folders like any others
    save(IDS, folder / "images" / "train" / "d.png")
    save(IDS, folder / "masks" / "train" / "d.png")
    assert [rule for rule, _ in rules(folder)] == ["mixed-layout"]


def test_masks_whose_names_end_alike_are_paired_once_the_end_is_named(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / "masks" / f"{name}.png").rename(folder / "masks" / f"{name}_seg.png")
    assert rules(folder) == [
        ("mask-names", "masks: names that end in _seg, where those of the images do not; set data.mask_suffix: _seg")
    ]
    save(IDS, folder / "masks" / "a_colours.png")
    raw = read(folder, mask_suffix="_seg")
    assert raw.names == ("images/a.bmp", "images/b.bmp", "images/c.bmp")
    assert [str(problem) for problem in raw.warnings] == ["masks: 1 images whose names do not end in _seg; they are left out"]


def test_a_binary_mask_with_two_values_for_the_object_is_refused(folder: Path) -> None:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[0], mask[1] = 1, 255
    save(mask, folder / "masks" / "a.png")
    for name in ("b", "c"):
        save((mask > 0).astype(np.uint8) * 255, folder / "masks" / f"{name}.png")
    found = rules(folder, classes=("ground", "cell"), mask_values="binary")
    assert [rule for rule, _ in found] == ["mask-values"] and "masks/a.png: 1 (6 pixels) beside 255 (6 pixels)" in found[0][1]


def test_soft_edges_of_a_binary_mask_are_said_to_be_that(folder: Path) -> None:
    save(np.linspace(0, 255, 24).astype(np.uint8).reshape(4, 6), folder / "masks" / "a.png")
    found = rules(folder, classes=("ground", "cell"), mask_values={"ground": 0, "cell": 1})[0][1]
    assert "keep 0 and 255 alone: if the others are soft edges, save the mask as `mask > 127`" in found


def test_unpaired_files_are_listed_in_both_directions(folder: Path) -> None:
    (folder / "masks" / "a.png").unlink()
    (folder / "masks" / "b.png").rename(folder / "masks" / "B.png")
    save(IDS, folder / "masks" / "orphan.png")
    found = rules(folder)
    assert [rule for rule, _ in found] == ["missing-mask", "missing-mask", "missing-image", "missing-image"]
    assert "masks/B.png differs in case only" in found[1][1]
    assert len(read(folder, on_bad_sample="skip")) == 1


def test_a_mask_off_by_one_pixel_is_refused_with_both_sizes(folder: Path) -> None:
    save(IDS[:, :-1], folder / "masks" / "b.png")
    [(rule, message)] = rules(folder, size=8)
    assert rule == "size-mismatch"
    assert message == "masks/b.png: 4 x 5 pixels high and wide; images/b.bmp has 4 x 6: make them the same"


def test_unknown_values_are_counted_and_a_mapping_is_suggested(folder: Path) -> None:
    for name in "abc":
        save((IDS > 0).astype(np.uint8) * 255, folder / "masks" / f"{name}.png")
    found = rules(folder, classes=("ground", "cell"))
    assert len(found) == 3
    assert found[0][1] == "masks/a.png: values without a class: 255 (10 pixels); set data.mask_values: binary"
    assert np.array_equal(read(folder, classes=("ground", "cell"), mask_values="binary").arrays["masks"][0], IDS > 0)


def test_values_and_colours_are_mapped_to_classes(folder: Path) -> None:
    for name in "abc":
        save(IDS * 50, folder / "masks" / f"{name}.png")
    assert "set data.mask_values: {ground: 0, cell: 50, dust: 100}" in rules(folder)[0][1]
    values: dict[str, Any] = {"ground": 0, "cell": 50, "dust": 100}
    assert np.array_equal(read(folder, mask_values=values).arrays["masks"][2], IDS)
    colours: dict[str, Any] = {"ground": (0, 0, 0), "cell": (255, 0, 0), "dust": (0, 0, 9)}
    for name in "abc":
        save(np.array(list(colours.values()), dtype=np.uint8)[IDS], folder / "masks" / f"{name}.png")
    assert np.array_equal(read(folder, mask_values=colours).arrays["masks"][2], IDS)


def test_resized_masks_hold_no_values_between_ids(folder: Path) -> None:
    for name in "abc":
        save((IDS > 0).astype(np.uint8) * 2, folder / "masks" / f"{name}.png")
        save((IDS > 0).astype(np.uint8) * 180, folder / "images" / f"{name}.bmp")
    for resize in ("stretch", "crop", "pad"):
        raw = read(folder, size=(13, 9), resize=resize)
        assert raw.arrays["masks"].shape == (3, 13, 9)
        assert set(np.unique(raw.arrays["masks"]).tolist()) == {0, 2}
        # What is ground in the mask is dark in the image: both were moved alike.
        images = raw.arrays["images"][:, 0].astype(int)
        assert np.abs(images - raw.arrays["masks"].astype(int) * 90).mean() < 20


def test_an_image_is_decoded_once_also_where_it_is_resized(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    whole = image_files._whole

    def spy(file: Any) -> bytes:
        decoded.append(Path(os.readlink(f"/proc/self/fd/{file.fileno()}")).name)
        return whole(file)

    monkeypatch.setattr(image_files, "_whole", spy)
    read(folder, size=(3, 5), channels=1)
    assert sorted(decoded) == ["a.bmp", "a.png", "b.bmp", "b.png", "c.bmp", "c.png"]


def test_jpeg_masks_are_refused_and_empty_ones_are_a_warning(folder: Path) -> None:
    save(IDS * 0, folder / "masks" / "b.png")
    [warning] = read(folder).warnings
    assert "1 of 3 masks (33%) show nothing but ground" in str(warning)
    (folder / "masks" / "a.png").unlink()
    save(IDS, folder / "masks" / "a.jpg")
    assert [rule for rule, _ in rules(folder)] == ["lossy-mask"]


def test_a_stack_is_split_by_the_order_of_its_slices(folder: Path) -> None:
    for number in (2, 10, 1):
        save(IDS * number, folder / "images" / f"{number}.png")
        save(IDS, folder / "masks" / f"{number}.png")
    raw = read(folder, split_by="order", val_fraction=0.2, test_fraction=0.3)
    assert raw.split is not None
    found = dict(zip(raw.names, raw.split.tolist(), strict=True))
    assert [found[f"images/{name}"] for name in ("1.png", "2.png", "10.png", "a.bmp", "b.bmp", "c.bmp")] == [0, 0, 0, 1, 2, 2]


def test_an_order_beside_folders_of_splits_is_refused(folder: Path) -> None:
    (folder / "train").mkdir()
    for side in ("images", "masks"):
        (folder / side).rename(folder / "train" / side)
    assert rules(folder, split_by="order")[0][0] == "split-twice"


def test_a_real_stack_with_folders_of_other_names_is_read_as_it_is(membranes: Path) -> None:
    changes = {"classes": ("membrane", "cell"), "images": "image", "masks": "label", "mask_values": "binary"}
    raw = read(membranes, **changes, split_by="order", val_fraction=0.1, test_fraction=0.2)
    assert raw.arrays["images"].shape == (30, 1, 512, 512) and not raw.warnings
    assert raw.split is not None
    tested = [name for name, number in zip(raw.names, raw.split, strict=True) if number == 2]
    assert sorted(tested) == [f"image/{number}.png" for number in range(24, 30)]
    assert 0.7 < np.mean(raw.arrays["masks"]) < 0.85


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"masks": "images"}, "images and masks are both images"),
        ({"mask_values": "binary"}, "binary and 3 classes"),
        ({"mask_values": {"ground": 0}}, "name the same ones"),
        ({"classes": ("a", "a")}, "between 2 and 256 classes"),
    ],
)
def test_contradictions_are_refused(folder: Path, changes: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read(folder, **changes)
