"""What a CNN computes: shapes, parameter counts, receptive fields, and that it learns."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainyard.models.cnn import CNN
from trainyard.models.cnn_config import CNNConfig, halvings, receptive_field, smallest_side

SMALL = CNNConfig(widths=(8, 16))
POOLINGS = ("max", "average", "stride", "none")


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (33, 20)])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_cnn_gives_logits_for_images_of_any_size(pooling: Any, size: tuple[int, int]) -> None:
    network = CNN(CNNConfig(widths=(4, 6), pooling=pooling), in_channels=3, num_classes=5)
    assert network(torch.randn(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize("size", [(32, 32), (17, 45), (64, 33)])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_resnet_gives_logits_for_images_of_any_size(stem: Any, size: tuple[int, int]) -> None:
    network = CNN(CNNConfig(architecture="resnet18", stem=stem), in_channels=1, num_classes=5)
    assert network(torch.randn(2, 1, *size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (CNNConfig(widths=(8, 16), pooling="max"), (16, 2, 2)),
        (CNNConfig(widths=(8, 16), pooling="stride"), (16, 3, 3)),
        (CNNConfig(widths=(8, 16), pooling="stride", whitening=3), (16, 3, 3)),
        (CNNConfig(widths=(8, 16), pooling="none", whitening=2), (16, 10, 10)),
        (CNNConfig(widths=(8, 16), pooling="none"), (16, 11, 11)),
        (CNNConfig(widths=(8, 16), pool_after="first"), (16, 2, 2)),
        (CNNConfig(widths=(8, 16), pooling="stride", pool_after="first"), (16, 3, 3)),
        (CNNConfig(architecture="resnet34", stem="small"), (512, 2, 2)),
        (CNNConfig(architecture="resnet50"), (2048, 1, 1)),
    ],
)
def test_cnn_halves_height_and_width_as_often_as_it_says(config: CNNConfig, blocks: tuple[int, ...]) -> None:
    network = CNN(config, in_channels=3, num_classes=2).eval()
    assert network.blocks(network.stem(torch.randn(1, 3, 11, 11)))[0].shape == blocks


def test_cnn_has_the_parameters_its_shape_implies() -> None:
    network = CNN(CNNConfig(widths=(8, 16), normalisation="none"), in_channels=3, num_classes=10)
    first = (3 * 9 * 8 + 8) + (8 * 9 * 8 + 8)
    second = (8 * 9 * 16 + 16) + (16 * 9 * 16 + 16)
    assert sum(p.numel() for p in network.parameters()) == first + second + 16 * 10 + 10 == 4_466


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_resnet_has_the_published_number_of_parameters(architecture: Any, count: int) -> None:
    with torch.device("meta"):
        network = CNN(CNNConfig(architecture=architecture), in_channels=3, num_classes=1000)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_resnet_halves_in_a_3x3_convolution(architecture: Any) -> None:
    network = CNN(CNNConfig(architecture=architecture, stem="small"), in_channels=3, num_classes=2)
    residuals = [(name, m) for name, m in network.blocks.named_modules() if "residual" in name]
    strided = {m.kernel_size for _, m in residuals if getattr(m, "stride", None) == (2, 2)}
    assert strided == {(3, 3)}


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(widths=(4,)),
        CNNConfig(widths=(4, 4, 4), pooling="average"),
        CNNConfig(widths=(4, 4, 4), pool_after="first"),
        CNNConfig(widths=(4, 4, 4), pooling="stride", kernel_size=5, convolutions=1),
        CNNConfig(widths=(4, 4), pooling="none", convolutions=3),
        CNNConfig(widths=(4, 4), whitening=3),
        CNNConfig(architecture="resnet18"),
        CNNConfig(architecture="resnet50", stem="small"),
    ],
)
def test_cnn_halves_only_what_has_two_pixels_at_the_smallest_side(config: CNNConfig) -> None:
    network = CNN(config, in_channels=1, num_classes=2).eval()
    smallest = smallest_side(config)
    sides: list[int] = []
    for module in network.modules():
        if getattr(module, "stride", 1) in (2, (2, 2)):
            module.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    assert network(torch.randn(1, 1, smallest, smallest)).isfinite().all()
    assert all(side >= 2 for side in sides)
    if smallest > 1:
        with suppress(RuntimeError):  # torch pools no single pixel
            network(torch.randn(1, 1, smallest - 1, smallest - 1))
        assert 1 in sides


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(widths=(4, 4), pooling="average", normalisation="none", activation="none"),
        CNNConfig(widths=(4, 4), pooling="stride", kernel_size=5, normalisation="none", activation="none"),
        CNNConfig(widths=(4, 4), pooling="average", pool_after="first", normalisation="none", activation="none"),
        CNNConfig(widths=(4, 4), pooling="stride", pool_after="first", normalisation="none", activation="none"),
        CNNConfig(widths=(4,), pooling="none", convolutions=3, normalisation="none", activation="none"),
        CNNConfig(widths=(4,), pooling="average", whitening=2, normalisation="none", activation="none"),
        CNNConfig(architecture="resnet18", stem="small", normalisation="none", activation="none"),
    ],
)
def test_cnn_receptive_field_is_what_a_gradient_reaches(config: CNNConfig) -> None:
    network = CNN(config, in_channels=1, num_classes=2).double()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    side = receptive_field(config) + 2 * 2 ** halvings(config)
    image = torch.zeros(1, 1, 1, side, dtype=torch.double).expand(1, 1, side, side).clone().requires_grad_()
    features = network.blocks(network.stem(image))
    features[0, 0, features.shape[2] // 2, features.shape[3] // 2].backward()
    assert image.grad is not None
    reached = image.grad[0, 0].nonzero()
    assert (reached.amax(dim=0) - reached.amin(dim=0) + 1).tolist() == [receptive_field(config)] * 2


@pytest.mark.parametrize(
    ("architecture", "pixels"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427), ("resnet101", 971)]
)
def test_resnet_receptive_field_is_pinned(architecture: Any, pixels: int) -> None:
    assert receptive_field(CNNConfig(architecture=architecture)) == pixels


@pytest.mark.parametrize(
    ("config", "learning_rate"),
    [
        (CNNConfig(widths=(16, 32)), 1e-2),
        (CNNConfig(architecture="resnet18", stem="small", normalisation="group"), 3e-4),
    ],
)
def test_cnn_learns_one_batch_by_heart(config: CNNConfig, learning_rate: float) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    network = CNN(config, in_channels=1, num_classes=10)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for _ in range(60):
        optimizer.zero_grad()
        loss = cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.05


def test_cnn_of_the_same_seed_is_the_same() -> None:
    images = torch.randn(2, 3, 8, 8)
    logits = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        logits.append(CNN(SMALL, in_channels=3, num_classes=4)(images))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_cnn_layers_have_addresses() -> None:
    network = CNN(SMALL, in_channels=3, num_classes=4)
    assert isinstance(network.get_submodule("blocks.1.0"), torch.nn.Conv2d)
    assert network.get_submodule("blocks.1.0").weight.shape == (16, 8, 3, 3)
