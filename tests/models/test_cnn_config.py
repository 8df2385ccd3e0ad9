"""What a CNN's config refuses."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard.models.cnn_config import CNNConfig, smallest_side


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"widths: is missing for architecture: plain; list the channels"),
        ({"widths": (8,), "kernel_size": 4}, r"kernel_size: 4 is even .*; use 3 or 5"),
        (
            {"widths": (8,), "stem": "small"},
            r"stem: small goes with a ResNet, found architecture: plain; remove",
        ),
        (
            {"architecture": "resnet18", "widths": (8, 16)},
            r"widths: \[8, 16\] goes with architecture: plain, found architecture: resnet18.*; remove widths",
        ),
        ({"architecture": "resnet50", "convolutions": 3}, r"convolutions: 3 .* architecture: resnet50"),
        ({"architecture": "resnet50", "kernel_size": 5}, r"kernel_size: 5 .* architecture: resnet50"),
        ({"architecture": "resnet50", "pooling": "average"}, r"pooling: average .* architecture: resnet50"),
        ({"architecture": "resnet50", "pool_after": "first"}, r"pool_after: first .* architecture: resnet50"),
        ({"architecture": "resnet50", "whitening": 2}, r"whitening: 2 .* architecture: resnet50"),
        ({"widths": (8,), "whitening": 1}, r"whitening: 1 is a patch of one pixel"),
        ({"widths": (8,), "pooling": "none", "pool_after": "first"}, r"pool_after: first .* found pooling: none"),
    ],
)
def test_cnn_config_refuses_contradictions(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CNNConfig(**keys)


@pytest.mark.parametrize(
    ("config", "pixels"),
    [
        (CNNConfig(widths=(8, 8, 8)), 8),
        (CNNConfig(widths=(8, 8, 8), pooling="stride"), 5),
        (CNNConfig(widths=(8, 8, 8), pooling="none"), 1),
        (CNNConfig(widths=(8, 8, 8), pooling="none", whitening=3), 3),
        (CNNConfig(widths=(8, 8, 8), whitening=2), 9),
        (CNNConfig(architecture="resnet18"), 17),
        (CNNConfig(architecture="resnet18", stem="small"), 5),
    ],
)
def test_smallest_side_leaves_each_halving_two_pixels(config: CNNConfig, pixels: int) -> None:
    assert smallest_side(config) == pixels
