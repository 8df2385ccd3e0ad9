from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.draws import Draws, Slot
from trainyard.tasks.pixels import change_values, cut_out, image_levels

COUNT = 200


@pytest.fixture
def images() -> torch.Tensor:
    """Images of middling colours, so that nothing is clipped."""
    return torch.randint(90, 160, (COUNT, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(count: int = COUNT) -> Draws:
    return Draws(0, 0, torch.arange(count))


def changed(images: torch.Tensor, **options: Any) -> np.ndarray:
    levels = image_levels(images) if "contrast" in options else None
    values = change_values(images, levels, AugmentConfig(**options), draws(len(images)))
    assert values.dtype == torch.float32
    return values.double().numpy()


def test_brightness_adds_one_number_to_all_values_of_an_image(images: torch.Tensor) -> None:
    added = changed(images, brightness=0.2) - images.double().numpy()
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-4
    assert np.abs(added).max() <= 51.001
    assert added.min() < -48 and added.max() > 48


def test_contrast_leaves_the_mean_and_scales_the_distances_from_it(images: torch.Tensor) -> None:
    before = images.double().numpy()
    after = changed(images, contrast=0.4)
    assert np.abs(after.mean(axis=(1, 2, 3)) - before.mean(axis=(1, 2, 3))).max() < 1e-3
    factors = after.std(axis=(1, 2, 3)) / before.std(axis=(1, 2, 3))
    assert 0.6 <= factors.min() < 0.62 and 1.38 < factors.max() <= 1.4001


def test_colours_turn_about_grey_and_greys_stay(images: torch.Tensor) -> None:
    after = changed(images, colour=0.3)
    before = images.double().numpy()
    saturation = draws().uniform(Slot.SATURATION, 0.7, 1.3).numpy()
    angles = draws().uniform(Slot.HUE, -0.3 * np.pi, 0.3 * np.pi).numpy()
    for sample in range(0, COUNT, 20):
        grey = before[sample].mean(axis=0, keepdims=True)
        turn = Rotation.from_rotvec(angles[sample] * np.ones(3) / np.sqrt(3)).as_matrix()
        turned = np.einsum("dc,chw->dhw", turn, before[sample] - grey) * saturation[sample] + grey
        assert np.abs(after[sample] - turned).max() < 1e-3
    greys = images[:, :1].expand(-1, 3, -1, -1)
    assert np.abs(changed(greys, colour=0.3) - greys.double().numpy()).max() < 1e-3


def test_noise_has_its_standard_deviation_and_differs_between_values(images: torch.Tensor) -> None:
    noise = changed(images, noise=0.02) - images.double().numpy()
    assert noise.std() == pytest.approx(0.02 * 255, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise.reshape(COUNT, -1)[:, 0], noise.reshape(COUNT, -1)[:, 1])[0, 1]) < 0.25


def test_values_stay_between_black_and_white() -> None:
    extremes = torch.tensor([0, 255], dtype=torch.uint8).repeat(COUNT, 1, 1, 8)
    after = changed(extremes, brightness=0.5, contrast=0.5, noise=0.2)
    assert after.min() == 0 and after.max() == 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_square_of_the_mean_is_cut_out_somewhere_inside(dtype: torch.dtype) -> None:
    images = torch.full((COUNT, 2, 7, 9), 200).to(dtype)
    found = cut_out(images, 3, (0.5, 0.1), draws())
    assert found.dtype == dtype
    cut = (found != 200).numpy()
    assert (cut.sum(axis=(2, 3)) == 9).all()
    assert np.array_equal(cut[:, 0], cut[:, 1])
    assert set(found[:, 0].unique().tolist()) == {200, 128} and set(found[:, 1].unique().tolist()) == {200, 26}
    rows, columns = cut[:, 0].any(axis=2), cut[:, 0].any(axis=1)
    assert (rows.sum(axis=1) == 3).all() and (columns.sum(axis=1) == 3).all()
    assert set(rows.argmax(axis=1)) == set(range(5)) and set(columns.argmax(axis=1)) == set(range(7))


def test_the_level_of_an_image_is_its_exact_mean(images: torch.Tensor) -> None:
    assert image_levels(images).numpy() == pytest.approx(images.numpy().mean(axis=(1, 2, 3)), rel=1e-7)
