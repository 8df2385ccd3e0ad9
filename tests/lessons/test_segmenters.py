"""What the lesson about U-Nets compares, and how it measures where and what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainyard.lessons.catalogue import recipes_of
from trainyard.lessons.dense import parameters
from trainyard.lessons.loop import build
from trainyard.lessons.packs import packed
from trainyard.lessons.segmenters import VARIANTS, boundary_iou, config_of, pattern, variants, wrong_class


def square(begin: int, end: int) -> np.ndarray:
    mask = np.zeros((1, 12, 12), dtype=bool)
    mask[0, begin:end, begin:end] = True
    return mask


def test_masks_whose_outermost_pixels_are_the_same_share_their_boundary() -> None:
    assert boundary_iou(square(2, 8), square(2, 8)) == 1


def test_a_mask_moved_by_a_pixel_shares_little_of_its_boundary() -> None:
    # A side of 6 has 20 outermost pixels; moved along the diagonal, 2 places are of both.
    assert boundary_iou(square(2, 8), square(3, 9)) == pytest.approx(2 / 38)


def test_what_is_counted_on_the_pixels_that_are_found_as_something() -> None:
    truth, found = np.array([[[1, 1, 1, 0]]]), np.array([[[1, 2, 0, 2]]])
    assert wrong_class(truth, found) == 0.5
    assert wrong_class(truth, np.zeros_like(truth)) == 1


def test_the_shallow_network_has_about_as_many_weights_and_sees_less(lesson_root: Path, tmp_path: Path) -> None:
    base = recipes_of("unet", tmp_path, 0)["scenes"]
    card = packed(base, lesson_root).card
    recipes = dict(zip(VARIANTS, variants(base, card), strict=True))
    full, shallow = (parameters(build(recipes[name], card)) for name in ("U-Net", "shallow"))
    assert 0.9 * full < shallow <= full
    assert config_of(recipes["shallow"]).depth == 1 and not config_of(recipes["no skips"]).skip_connections


def test_a_network_that_treats_all_places_alike_has_no_pattern_of_its_own() -> None:
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert pattern(Floats(nn.Conv2d(1, 3, 3, padding=1)), images)[0] < 1e-6
    doubled = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2))
    assert pattern(Floats(doubled), images)[0] > 0.1


class Floats(nn.Module):
    """A network that takes bytes, as those of images do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.float() / 255)
