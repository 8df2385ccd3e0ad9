from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from trainyard.models.cnn import CNN
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.whitening import LEAST_VARIANCE, Whitening, whiten


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Pieces (200, 3, 16, 16) uint8 of two photographs."""
    pieces = [
        photograph[top : top + 16, left : left + 16]
        for photograph in load_sample_images().images
        for top in range(0, 400, 40)
        for left in range(0, 600, 60)
    ]
    return np.stack(pieces).transpose(0, 3, 1, 2)


def normalise(images: Tensor) -> Tensor:
    return images.float() / 128 - 1


@pytest.mark.parametrize("side", [2, 3])
def test_what_comes_out_has_one_variance_and_nothing_in_common(images: np.ndarray, side: int) -> None:
    layer = Whitening(3, side)
    before = normalise(torch.from_numpy(images))
    whiten(nn.Sequential(layer), images, normalise)
    after = layer(before).detach().double().movedim(1, 3).reshape(-1, layer.out_channels)
    size = 3 * side**2
    assert layer.out_channels == 2 * size
    assert torch.equal(after[:, :size], -after[:, size:])
    moments = after[:, :size].T @ after[:, :size] / len(after)
    # What hardly varies stays below one; no component has anything in common with another.
    assert torch.allclose(moments, moments.diag().diag(), atol=1e-3)
    assert moments.diag().max() == pytest.approx(1, abs=1e-3)
    assert (moments.diag() > 0).all()
    raw = before.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, size).double()
    variances = torch.linalg.eigvalsh(raw.T @ raw / len(raw))
    assert torch.allclose(moments.diag(), variances / (variances + LEAST_VARIANCE), atol=1e-3)


def test_images_without_contrast_leave_finite_weights() -> None:
    layer = Whitening(1, 2)
    whiten(nn.Sequential(layer), np.zeros((3, 1, 4, 4), dtype=np.uint8), normalise)
    assert layer.weight.isfinite().all()


def test_the_weights_stay_and_the_bias_is_learned(images: np.ndarray) -> None:
    network = CNN(CNNConfig(widths=(4,), whitening=2), in_channels=3, num_classes=2)
    whiten(network, images, normalise)
    layer = next(module for module in network.modules() if isinstance(module, Whitening))
    assert not layer.weight.requires_grad
    weight = layer.weight.clone()
    network(normalise(torch.from_numpy(images[:8]))).square().sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None and layer.bias.grad is not None and layer.bias.grad.abs().sum() > 0
    assert torch.equal(layer.weight, weight)


def test_a_network_without_the_layer_is_left_alone(images: np.ndarray) -> None:
    network = CNN(CNNConfig(widths=(4,)), in_channels=3, num_classes=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whiten(network, images, normalise)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
