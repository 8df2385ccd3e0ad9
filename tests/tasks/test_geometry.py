"""Moved images are held against numpy's and SciPy's own moves, with what was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.draws import Draws, Slot
from trainyard.tasks.geometry import draw_pose, move, sampling_grid

Image = np.ndarray


def numbered(height: int, width: int, count: int = 64, channels: int = 1) -> torch.Tensor:
    """Return `count` times the same image, whose values are all different."""
    values = torch.arange(channels * height * width, dtype=torch.uint8).view(1, channels, height, width)
    return values.repeat(count, 1, 1, 1)


def draws(count: int = 64, epoch: int = 0) -> Draws:
    return Draws(0, epoch, torch.arange(count))


def moved(images: torch.Tensor, epoch: int = 0, **options: Any) -> Image:
    return move(images, None, AugmentConfig(**options), draws(len(images), epoch))[0].numpy()


def distinct(images: Image) -> int:
    return len({image.tobytes() for image in images})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zeros", "constant")])
def test_a_shift_is_a_window_of_the_padded_image(padding: str, mode: Any, channels: int) -> None:
    images = numbered(5, 7, channels=channels)
    found = moved(images, shift=3, padding=padding)
    padded = np.pad(images[0].numpy(), ((0, 0), (3, 3), (3, 3)), mode=mode)
    top, left = (draws().below(slot, 7).tolist() for slot in (Slot.SHIFT_ROWS, Slot.SHIFT_COLUMNS))
    for image, row, column in zip(found, top, left, strict=True):
        assert np.array_equal(image, padded[:, row : row + 5, column : column + 7])
    assert found.dtype == np.uint8 and distinct(found) > 30


def test_a_crop_is_a_part_of_the_image_from_anywhere_in_it() -> None:
    images = numbered(4, 5, count=200)
    found = moved(images, crop=(3, 2))
    parts = {images[0, 0, row : row + 3, column : column + 2].numpy().tobytes() for row in range(2) for column in range(4)}
    assert found.shape == (200, 1, 3, 2)
    assert {image.tobytes() for image in found} == parts


@pytest.mark.parametrize(
    ("flip", "sides"), [("horizontal", [(), (1,)]), ("vertical", [(), (0,)]), ("both", [(), (0,), (1,), (0, 1)])]
)
def test_flips_are_mirrors(flip: str, sides: list[tuple[int, ...]]) -> None:
    images = numbered(3, 4)
    expected = {np.flip(images[0, 0].numpy(), axes).tobytes() for axes in sides}
    assert {image.tobytes() for image in moved(images, flip=flip)} == expected


def test_half_of_ten_thousand_are_flipped_and_shifts_are_uniform() -> None:
    config = AugmentConfig(flip="horizontal", shift=2)
    pose = draw_pose(config, draws(10_000), 8, 8)
    assert abs(float(pose.leftwards.float().mean()) - 0.5) < 0.02
    assert not pose.upwards.any()
    cells = torch.bincount((pose.top + 2) * 5 + pose.left + 2, minlength=25).numpy()
    assert cells == pytest.approx(400, rel=0.25)


@pytest.mark.parametrize(("flip", "epochs"), [("horizontal", 2), ("vertical", 2), ("both", 4)])
def test_alternating_flips_show_every_side_once_in_a_round_of_epochs(flip: str, epochs: int) -> None:
    images = numbered(3, 4)
    for start in (0, 5):
        seen = np.stack([moved(images, epoch, flip=flip, alternate_flip=True) for epoch in range(start, start + epochs)])
        assert all(distinct(seen[:, sample]) == epochs for sample in range(64))
    unchanged = (moved(images, flip=flip, alternate_flip=True) == images.numpy()).all(axis=(1, 2, 3))
    assert int(unchanged.sum()) == pytest.approx(64 / epochs, abs=14)


def test_quarter_turns_are_the_four_rotations_and_no_mirror() -> None:
    images = numbered(4, 4, count=400)
    found = [image.tobytes() for image in moved(images, rotate90=True)]
    rotations = [np.rot90(images[0, 0].numpy(), turns).tobytes() for turns in range(4)]
    assert [found.count(rotation) for rotation in rotations] == pytest.approx([100] * 4, abs=35)


def test_a_rotation_and_a_zoom_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.uniform(0, 255, (21, 31)), 1.5)
    images = torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)).view(1, 1, 21, 31).repeat(16, 1, 1, 1)
    found = moved(images, rotate=40.0, scale=(0.6, 1.7), shift=2)
    angles = draws(16).uniform(Slot.ANGLE, -np.radians(40), np.radians(40)).tolist()
    zooms = draws(16).uniform(Slot.SCALE, 0.6, 1.7).tolist()
    top, left = ((draws(16).below(slot, 5) - 2).tolist() for slot in (Slot.SHIFT_ROWS, Slot.SHIFT_COLUMNS))
    middle = np.array([10.0, 15.0])
    for seen, angle, zoom, row, column in zip(found, angles, zooms, top, left, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        offset = middle + np.array([row, column]) - turn @ middle
        expected = ndimage.affine_transform(images[0, 0].numpy().astype(float), turn, offset, order=1, mode="mirror")
        assert np.abs(seen[0] - expected).max() < 0.02
    assert min(angles) < -0.4 and max(angles) > 0.4


def test_elastic_moves_are_a_coarse_normal_grid_continued_bicubically() -> None:
    config = AugmentConfig(elastic=4.0)
    pose = draw_pose(config, draws(500), 40, 60)
    grid = sampling_grid(pose, config, draws(500), 40, 60)
    pixels = (grid + 1) / 2 * torch.tensor([59.0, 39.0])
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    moves = (pixels - torch.stack((columns, rows), dim=2)).permute(0, 3, 1, 2)
    coarse = draws(500).normal(Slot.ELASTIC, 18).view(500, 2, 3, 3) * 4
    expected = interpolate(coarse, size=(40, 60), mode="bicubic", align_corners=True)
    assert float((moves - expected).abs().max()) < 1e-3
    corners = moves[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners.std()) == pytest.approx(4, rel=0.05)
    # Smooth: from one pixel to the next it changes by little of its size.
    assert float(moves.diff(dim=3).abs().max()) < 2


def every_geometry() -> Iterator[dict[str, Any]]:
    yield from (
        {"shift": 9},
        {"flip": "both"},
        {"rotate90": True},
        {"crop": (40, 40)},
        {"rotate": 180.0},
        {"scale": (0.5, 2.0)},
    )
    yield from ({"elastic": 4.0}, {"elastic": 2.0, "elastic_grid": 5, "crop": (48, 32)})
    yield {"shift": 5, "flip": "both", "rotate90": True, "crop": (40, 40)}
    yield {"shift": 5, "flip": "both", "rotate90": True, "crop": (40, 40), "rotate": 30.0, "scale": (0.8, 1.3), "elastic": 2.0}


@pytest.mark.parametrize("options", every_geometry(), ids=str)
def test_masks_move_with_their_images_and_get_no_new_ids(options: dict[str, Any]) -> None:
    rows, columns = np.mgrid[:64, :64]
    first = (rows - 20) ** 2 + (columns - 40) ** 2 < 14**2
    second = (rows - 45) ** 2 / 100 + (columns - 20) ** 2 / 200 < 1
    masks = np.where(first, 7, np.where(second, 250, 0))
    batch = torch.from_numpy(masks).repeat(24, 1, 1)
    # The image shows one class alone, so that its border lies where the mask's does, however values are interpolated.
    for number in (7, 250):
        images = ((batch == number) * 255).to(torch.uint8).unsqueeze(1)
        seen, labels = move(images, batch, AugmentConfig(**options), draws(24))
        assert labels is not None and labels.dtype == torch.int64 and set(labels.unique().tolist()) <= {0, 7, 250}
        bright, marked = seen[:, 0] >= 128, labels == number
        if seen.dtype == torch.uint8:
            assert torch.equal(bright, marked)
        overlap, union = (bright & marked).sum(), (bright | marked).sum()
        assert int(union) > 1000 and float(overlap / union) > 0.97


@pytest.mark.parametrize("options", every_geometry(), ids=str)
def test_a_sample_moves_the_same_in_any_batch(options: dict[str, Any]) -> None:
    images = torch.randint(0, 256, (33, 3, 64, 64), dtype=torch.uint8)
    masks = torch.randint(0, 5, (33, 64, 64))
    config = AugmentConfig(**options)
    whole, labels = move(images, masks, config, draws(33))
    for part in ([5], [32, 0, 7], list(range(10, 27))):
        seen, ids = move(images[part], masks[part], config, Draws(0, 0, torch.tensor(part)))
        assert torch.equal(seen, whole[part])
        assert ids is not None and labels is not None and torch.equal(ids, labels[part])


def test_one_row_of_pixels_can_be_moved() -> None:
    images = numbered(1, 6)
    assert moved(images, flip="both", rotate=5.0).shape == images.shape
    assert {image.tobytes() for image in moved(images, flip="horizontal")} == {
        images[0].numpy().tobytes(),
        images[0].flip(2).numpy().tobytes(),
    }
