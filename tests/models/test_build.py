from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.errors import InputError
from trainyard.export.config import ExportConfig
from trainyard.export.onnx_format import write_onnx
from trainyard.export.verify import verify
from trainyard.models.build import build_network
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.spec import InputSpec
from trainyard.models.unet_config import UNetConfig

SPEC = InputSpec(kind="image_classification", classes=("a", "b"), channels=1, height=8, width=8, mean=(0.25,), std=(0.5,))


def test_pixels_are_normalised_inside_the_network() -> None:
    torch.manual_seed(0)
    network = build_network(CNNConfig(widths=(4,), normalisation="group"), SPEC)
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    bare = network.network((images / 255 - 0.25) / 0.5)  # type: ignore[operator]
    torch.testing.assert_close(network(images), bare)


def test_images_too_small_for_the_network_are_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match=r"at least 16 pixels a side, the data are 8 x 8; use fewer model\.widths"):
        build_network(CNNConfig(widths=(4, 4, 4, 4)), SPEC)


def test_an_unpadded_unet_labels_whole_images_also_after_export(tmp_path: Path) -> None:
    spec = InputSpec(kind="segmentation", classes=("a", "b"), channels=1, height=9, width=12, mean=(0.5,), std=(0.5,))
    network = build_network(UNetConfig(depth=2, base_width=4, padding="none", normalisation="batch"), spec).eval()
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (6, 1, 9, 12), dtype=np.uint8),
        "masks": rng.integers(0, 2, (6, 9, 12), dtype=np.uint8),
    }
    split = Split("segmentation", "test", arrays)
    assert network(*gather(split, np.arange(2)).inputs).shape == (2, 2, 9, 12)
    write_onnx(network, spec, gather(split, np.arange(2)).inputs, tmp_path / "model.onnx", {})
    assert verify(tmp_path / "model.onnx", network, split, ExportConfig(verify_samples=6)).max_difference <= 1e-4
