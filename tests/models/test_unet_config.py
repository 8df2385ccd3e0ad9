"""What a U-Net's config refuses, and its arithmetic of sizes."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard.models.unet_config import UNetConfig, output_size, receptive_field


def test_unet_config_refuses_an_even_kernel() -> None:
    with pytest.raises(ValueError, match=r"kernel_size: 2 is even and has no middle pixel; use 1 or 3"):
        UNetConfig(kernel_size=2)


def test_output_size_is_that_of_the_paper() -> None:
    assert output_size(UNetConfig(padding="none"), 572) == 388


def test_output_size_of_a_padded_unet_is_the_input_size() -> None:
    assert output_size(UNetConfig(), 571) == 571


@pytest.mark.parametrize(("size", "fitting"), [(573, 588), (571, 572), (20, 188)])
def test_output_size_refuses_a_side_that_cannot_be_halved_and_names_the_next_that_can(size: int, fitting: int) -> None:
    message = rf"side of {size} pixels does not go through depth: 4 with padding: none; use {fitting} pixels"
    with pytest.raises(ValueError, match=message):
        output_size(UNetConfig(padding="none"), size)


def test_receptive_field_of_the_paper() -> None:
    assert receptive_field(UNetConfig()) == 140


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"depth": 3, "deep_supervision": 3}, r"deep_supervision: 3 is more levels .* with depth: 3; use at most 2"),
        ({"deep_supervision": 1, "padding": "none"}, r"deep_supervision: 1 needs labels for every pixel.* use padding: same"),
    ],
)
def test_deep_supervision_of_levels_that_there_are_not_is_refused(shape: dict[str, Any], message: str) -> None:
    assert UNetConfig(depth=3, deep_supervision=2).deep_supervision == 2
    with pytest.raises(ValueError, match=message):
        UNetConfig(**shape)
