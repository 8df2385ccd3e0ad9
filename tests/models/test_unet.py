"""What a U-Net computes: sizes, parameters, its receptive field, that it learns, and that it exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch.nn.functional import cross_entropy

from trainyard.models.unet import UNet, WithContext, _enlarged
from trainyard.models.unet_config import UNetConfig, output_size, receptive_field

UPSAMPLINGS = ("transposed", "bilinear", "nearest")
PADDINGS: tuple[Any, ...] = ("same", "none")
PAPER: dict[str, Any] = {"padding": "none", "normalisation": "none"}


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (1, 37)])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("skip_connections", [True, False])
def test_unet_keeps_height_and_width(upsampling: Any, skip_connections: bool, size: tuple[int, int]) -> None:
    config = UNetConfig(depth=3, base_width=4, upsampling=upsampling, skip_connections=skip_connections)
    assert UNet(config, in_channels=3, num_classes=5)(torch.randn(2, 3, *size)).shape == (2, 5, *size)


def test_unpadded_unet_is_the_one_of_the_paper() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig(**PAPER), in_channels=1, num_classes=2)
        logits = network(torch.empty(1, 1, 572, 572))
    assert logits.shape == (1, 2, 388, 388)
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


@pytest.mark.parametrize("size", [44, 60, 100])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_unpadded_unet_gives_the_size_that_the_config_says(upsampling: Any, size: int) -> None:
    config = UNetConfig(depth=2, base_width=4, upsampling=upsampling, padding="none")
    side = output_size(config, size)
    assert UNet(config, in_channels=1, num_classes=3)(torch.randn(2, 1, size, size)).shape == (
        2,
        3,
        side,
        side,
    )


@pytest.mark.parametrize("size", [(1, 5), (16, 16), (33, 50)])
def test_unpadded_unet_with_context_labels_every_pixel_as_the_padless_one_does(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = UNetConfig(depth=2, base_width=4, padding="none", normalisation="none")
    network = UNet(config, in_channels=1, num_classes=3)
    images = torch.randn(2, 1, *size)
    logits = WithContext(network, config)(images)
    assert logits.shape == (2, 3, *size)
    # With a border that is the image's own, it is the bare network on the larger image.
    larger = torch.nn.functional.pad(images, (20, 20 + (-size[1]) % 4, 20, 20 + (-size[0]) % 4), mode="replicate")
    torch.testing.assert_close(network(larger)[..., : size[0], : size[1]], logits)


def test_unpadded_unet_is_the_middle_of_the_padded_one() -> None:
    """The same weights give the same logits wherever no convolution reaches the border."""
    padded, unpadded = (
        UNet(UNetConfig(depth=1, base_width=4, normalisation="none", padding=padding), 1, 3) for padding in PADDINGS
    )
    unpadded.load_state_dict(padded.state_dict())
    images = torch.randn(2, 1, 40, 40)
    torch.testing.assert_close(unpadded(images), padded(images)[..., 8:32, 8:32], atol=1e-5, rtol=0)


def test_unet_has_the_parameters_its_shape_implies() -> None:
    config = UNetConfig(depth=1, base_width=4, normalisation="none")
    down = (3 * 9 * 4 + 4) + (4 * 9 * 4 + 4)
    bottom = (4 * 9 * 8 + 8) + (8 * 9 * 8 + 8)
    up = (8 * 4 * 4 + 4) + (8 * 9 * 4 + 4) + (4 * 9 * 4 + 4)
    head = 4 * 5 + 5
    network = UNet(config, in_channels=3, num_classes=5)
    assert sum(p.numel() for p in network.parameters()) == down + bottom + up + head == 1_737


@pytest.mark.parametrize(
    "shape",
    [
        {"depth": 2},
        {"depth": 1, "kernel_size": 5},
        {"depth": 3, "convolutions": 1},
        {"depth": 2, "padding": "none"},
    ],
)
def test_unet_receptive_field_is_what_a_gradient_reaches(shape: dict[str, Any]) -> None:
    config = UNetConfig(base_width=2, normalisation="none", activation="none", **shape)
    network = UNet(config, in_channels=1, num_classes=2).double()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    side = 2 * (receptive_field(config) // 2**config.depth + 2) * 2**config.depth
    # Slopes in four directions, because a max-pooling lets the gradient through to the highest pixel only.
    reached = torch.zeros(side, side, dtype=torch.bool)
    for slope_y, slope_x in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        steps = torch.arange(side, dtype=torch.double)
        image = (slope_y * steps[:, None] + slope_x * steps)[None, None].requires_grad_()
        features = image
        for level in network.encoder:
            features = network.pool(level(features))
        bottom = network.bottom(features)
        bottom[0, 0, bottom.shape[2] // 2, bottom.shape[3] // 2].backward()
        assert image.grad is not None
        reached |= image.grad[0, 0] != 0
    places = reached.nonzero()
    assert (places.amax(dim=0) - places.amin(dim=0) + 1).tolist() == [receptive_field(config)] * 2


def test_unet_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    images, masks = torch.randn(4, 1, 15, 18), torch.randint(3, (4, 15, 18))
    network = UNet(UNetConfig(depth=2, base_width=16), in_channels=1, num_classes=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = cross_entropy(network(images), masks)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.1


def test_unet_of_the_same_seed_is_the_same() -> None:
    images = torch.randn(2, 3, 8, 8)
    logits = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        logits.append(UNet(UNetConfig(depth=2, base_width=4), in_channels=3, num_classes=4)(images))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_unet_without_skips_sees_details_only_through_the_bottom() -> None:
    config = UNetConfig(depth=2, base_width=4, skip_connections=False, normalisation="none")
    network = UNet(config, in_channels=1, num_classes=2)
    torch.nn.init.zeros_(network.get_parameter("bottom.0.0.weight"))
    logits = network(torch.randn(2, 1, 16, 16))
    assert torch.equal(logits[0], logits[1])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_unet_exports_to_onnx_with_free_batch_height_and_width(upsampling: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(depth=2, base_width=4, upsampling=upsampling), in_channels=1, num_classes=3).eval()
    program = torch.onnx.export(
        network,
        (torch.randn(2, 1, 40, 44),),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
    )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for size in ((1, 1, 5, 7), (3, 1, 37, 50)):
        images = torch.randn(size)
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), network(images).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
def test_coarser_levels_label_every_pixel_while_training_alone(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(depth=3, base_width=4, deep_supervision=2, normalisation="group"), in_channels=1, num_classes=3)
    images = torch.randn(2, 1, *size)
    labels, *coarse = network(images)
    assert [found.shape for found in (labels, *coarse)] == [(2, 3, *size)] * 3
    torch.testing.assert_close(network.eval()(images), labels)
    # A level below is labelled by what has not been through the levels above it.
    coarse[1].sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert "coarse_heads.1.weight" in reached and "decoder.0.0.weight" in reached
    assert not any(name.startswith(("decoder.1", "decoder.2", "head", "coarse_heads.0")) for name in reached)


def test_a_coarse_pixel_counts_for_the_pixels_that_it_covers() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 1, 1, 2] = 8.0
    larger = _enlarged(logits, 4, torch.empty(1, 1, 15, 16))
    assert larger.shape == (1, 2, 15, 16)
    where = (larger[0, 1] == larger.max()).nonzero().double().mean(dim=0).tolist()
    assert where == [5.5, 9.5]


def test_deep_supervision_is_in_no_exported_graph(tmp_path: Path) -> None:
    from trainyard.export.onnx_format import write_onnx
    from trainyard.models.build import build_network
    from trainyard.models.spec import InputSpec

    spec = InputSpec(kind="segmentation", classes=("a", "b"), channels=1, height=16, width=16, mean=(0.5,), std=(0.2,))
    network = build_network(UNetConfig(depth=2, base_width=4, deep_supervision=1), spec).eval()
    images = torch.randint(0, 256, (2, 1, 17, 19), dtype=torch.uint8)
    write_onnx(network, spec, (images,), tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits"]
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(found, network(images).detach(), atol=1e-4, rtol=0)
    names = {entry.name for entry in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert any("head" in name for name in names) and not any("coarse" in name for name in names)
