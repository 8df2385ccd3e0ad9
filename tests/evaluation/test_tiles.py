from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.tile_grid import TileConfig, tile_axes
from trainyard.evaluation.tiles import mirrored, segmenter
from trainyard.models.build import build_network
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.spec import InputSpec
from trainyard.models.turned import Turned
from trainyard.models.unet_config import UNetConfig, context

SPEC = InputSpec(kind="segmentation", classes=("ground", "cell"), channels=1, height=64, width=64, mean=(0.5,), std=(0.25,))
SMALL = UNetConfig(depth=2, base_width=4, convolutions=1)
UNPADDED = UNetConfig(depth=2, base_width=4, padding="none")
SEEN = context(replace(SMALL, padding="none"))[0]
"""Pixels around one that the small network takes into account, on both sides together."""


class Recorder(nn.Module):
    """Two logits a pixel, its grey and nothing; remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(tuple(images.shape))
        grey = images.float()
        return torch.cat([grey, torch.zeros_like(grey)], dim=1)


def network(config: UNetConfig) -> nn.Module:
    torch.manual_seed(0)
    return build_network(config, SPEC).eval()


def pictures(height: int, width: int, count: int = 1) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 256, (count, 1, height, width), dtype=torch.uint8)


def tiled(inner: nn.Module, model: UNetConfig, size: int | tuple[int, int], overlap: int, batch_size: int = 4) -> nn.Module:
    config = EvaluateConfig(tile=TileConfig(size=size, overlap=overlap), batch_size=batch_size)
    return segmenter(inner, model, config)[0]


@torch.inference_mode()
def differences(model: UNetConfig, size: int | tuple[int, int], overlap: int, side: tuple[int, int]) -> tuple[float, float]:
    """Return how far tiles and the whole image are apart at most: away from the border, and anywhere."""
    inner, images = network(model), pictures(*side)
    apart = (tiled(inner, model, size, overlap)(images) - inner(images)).abs()
    # Pixels of one block of 2^depth look equally far, though the last of them lies further inside.
    edge = context(replace(model, padding="none"))[0] // 2 + 2**model.depth
    return float(apart[..., edge:-edge, edge:-edge].max()), float(apart.max())


@pytest.mark.parametrize("side", [(96, 96), (101, 83)])
def test_tiles_that_overlap_by_what_a_pixel_sees_give_what_the_whole_image_gives(side: tuple[int, int]) -> None:
    inside, anywhere = differences(SMALL, 64, SEEN, side)
    assert inside < 1e-5
    # At the border a tile sees the image mirrored, and the whole image nothing.
    assert anywhere > 1e-3


def test_tiles_that_overlap_too_little_show() -> None:
    assert differences(SMALL, 32, 0, (96, 96))[0] > 1e-3


@pytest.mark.parametrize(("size", "overlap"), [(64, 0), ((60, 80), 0), (76, 52)])
def test_tiles_of_an_unpadded_network_bring_their_context(size: int | tuple[int, int], overlap: int) -> None:
    assert differences(UNPADDED, size, overlap, (100, 90))[0] < 1e-5


@pytest.mark.parametrize("side", [(1, 1), (5, 40), (32, 32), (33, 31), (70, 7)])
@pytest.mark.parametrize("overlap", [0, 9, 16])
def test_each_pixel_of_an_image_of_any_size_is_labelled_by_what_it_shows(side: tuple[int, int], overlap: int) -> None:
    images = pictures(*side, count=3)
    found = tiled(Recorder(), SMALL, (32, 40), overlap)(images)
    assert torch.equal(found[:, :1], images.float())


@torch.inference_mode()
def test_a_uniform_image_is_labelled_alike_up_to_its_border() -> None:
    model = replace(UNPADDED, upsampling="nearest")
    found = tiled(network(model), model, 64, 8)(torch.full((1, 1, 90, 70), 90, dtype=torch.uint8))
    torch.testing.assert_close(found, found[..., :1, :1].expand_as(found))


def test_no_more_tiles_than_a_batch_are_held_at_once_and_all_have_one_size() -> None:
    recorder = Recorder()
    tiled(recorder, SMALL, 32, 8, batch_size=3)(pictures(100, 100))
    assert {shape[1:] for shape in recorder.shown} == {(1, 32, 32)}
    assert [shape[0] for shape in recorder.shown] == [3] * 8 + [1]


def test_images_with_tiles_come_one_by_one() -> None:
    config = EvaluateConfig(tile=TileConfig(size=32, overlap=8), batch_size=16)
    assert segmenter(Recorder(), SMALL, config)[1] == 1
    assert segmenter(Recorder(), SMALL, EvaluateConfig(batch_size=16))[1] == 16


def test_beyond_its_border_an_image_is_mirrored_at_any_distance() -> None:
    row = torch.arange(5.0)
    near = pad(row[None, None], (4, 4), mode="reflect")[0, 0]
    assert torch.equal(row[mirrored(torch.arange(-4, 9), 5)], near)
    assert torch.equal(mirrored(torch.arange(-8, 5), 5)[:5], torch.arange(5))
    assert mirrored(torch.arange(-3, 3), 1).tolist() == [0] * 6


def test_a_tile_without_a_middle_is_refused_and_the_smallest_that_has_one_named() -> None:
    for model, overlap in ((SMALL, 0), (SMALL, 30), (UNPADDED, 0), (UNPADDED, 61)):
        with pytest.raises(ValueError, match=r"leave nothing of a tile's middle .* use a size of \d+ pixels") as caught:
            tile_axes(TileConfig(size=3, overlap=overlap), model)
        smallest = int(str(caught.value).rpartition("size of ")[2].split()[0])
        assert tile_axes(TileConfig(size=smallest, overlap=overlap), model)[0].step == 4
        with pytest.raises(ValueError, match="leave nothing"):
            tile_axes(TileConfig(size=smallest - 1, overlap=overlap), model)


@torch.inference_mode()
def test_probabilities_of_all_eight_positions_are_averaged_where_they_belong() -> None:
    inner, images = network(SMALL), pictures(48, 40, count=2)
    found = Turned(inner)(images).softmax(dim=1)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 48, 40))
    by_hand = torch.zeros(2, 2, 48, 40)
    for turns in range(4):
        seen = images.rot90(turns, (2, 3))
        by_hand += inner(seen).softmax(dim=1).rot90(-turns, (2, 3))
        by_hand += inner(seen.flip(2)).softmax(dim=1).flip(2).rot90(-turns, (2, 3))
    torch.testing.assert_close(found, by_hand / 8)
    # It no longer matters how the image was turned.
    turned = Turned(inner)(images.rot90(1, (2, 3))).softmax(dim=1).rot90(-1, (2, 3))
    torch.testing.assert_close(found, turned)


@torch.inference_mode()
def test_a_classifier_is_shown_the_image_and_its_mirror_image() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval()
    images = torch.randn(5, 3, 8, 8)
    seen, size = segmenter(inner, CNNConfig(widths=(8,)), EvaluateConfig(flips="horizontal"))
    by_hand = (inner(images).softmax(dim=1) + inner(images.flip(3)).softmax(dim=1)) / 2
    torch.testing.assert_close(seen(images).softmax(dim=1), by_hand)
    torch.testing.assert_close(seen(images.flip(3)), seen(images))
    assert size == EvaluateConfig().batch_size
    everywhere = segmenter(inner, CNNConfig(widths=(8,)), EvaluateConfig(flips="all"))[0]
    torch.testing.assert_close(everywhere(images.rot90(1, (2, 3))), everywhere(images))


def test_only_unets_look_at_tiles() -> None:
    inner = Recorder()
    assert segmenter(inner, CNNConfig(widths=(8,)), EvaluateConfig())[0] is inner
    assert segmenter(inner, SMALL, EvaluateConfig())[0] is inner
    with pytest.raises(TypeError, match="Recorder holds no unpadded network"):
        tiled(inner, UNPADDED, 64, 0)
