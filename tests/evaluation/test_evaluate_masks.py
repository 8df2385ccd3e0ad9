"""Masks through the whole of `evaluate`: tiles, flips, and the Rand error with its threshold."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.packed import Card, SplitName, content_sha256, write_arrays, write_card
from trainyard.errors import InputError
from trainyard.evaluation.config import EvaluateConfig, RandErrorConfig
from trainyard.evaluation.evaluate import Evaluation, evaluate
from trainyard.evaluation.paths import ReportPaths
from trainyard.evaluation.tile_grid import TileConfig
from trainyard.export.config import ExportConfig
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig

CLASSES = ("membrane", "cell")
PLAIN = EvaluateConfig(bootstrap_samples=50, shown_samples=2, baseline=False)
RAND = replace(PLAIN, rand_error=RandErrorConfig(foreground="cell"))


class Grey(nn.Module):
    """A pixel as bright as 255 is a cell for sure; remembers the shapes it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(tuple(images.shape))
        cell = images.float().clamp(1, 254) / 255
        return torch.cat([(1 - cell).log(), cell.log()], dim=1)


def cells(between: float, count: int) -> dict[str, np.ndarray]:
    """Return images of four cells of 0.9 with membranes that look like cells at `between`, and their masks."""
    masks = np.ones((count, 24, 30), dtype=np.uint8)
    masks[:, 11:13] = masks[:, :, 14:16] = 0
    images = np.where(masks, 0.9, between)[:, None] * 255 + np.arange(count)[:, None, None, None]
    return {"images": images.astype(np.uint8), "masks": masks}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    splits: dict[SplitName, dict[str, np.ndarray]] = {"train": cells(0.1, 4), "val": cells(0.72, 2), "test": cells(0.3, 3)}
    arrays = {name: write_arrays(folder, name, values) for name, values in splits.items()}
    card = Card(
        name="cells",
        source="image_masks",
        kind="segmentation",
        about="Four cells.",
        classes=CLASSES,
        counts={},
        samples={},
        input={"channels": 1, "height": 24, "width": 30},
        normalisation={"mean": [0.5], "std": [0.25]},
        libraries={},
        arrays=arrays,
        files={},
        duplicates_dropped=0,
        sha256=content_sha256(CLASSES, arrays, {}),
    )
    write_card(folder, card)
    (tmp_path / "history.csv").write_text("epoch,train/loss,val/loss,val/mean_iou\n1,1.0,1.1,0.5\n")
    return folder


def score(config: EvaluateConfig, data_dir: Path, network: nn.Module | None = None) -> Evaluation:
    recipe = Recipe(
        name="cells",
        family="unet",
        data=ImageMasksConfig(source="image_masks", path="cells", classes=CLASSES),
        model=UNetConfig(depth=2),
        train=TrainConfig(epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1),
        evaluate=config,
        export=ExportConfig(),
    )
    card = data_dir / "card.json"
    spec = InputSpec(kind="segmentation", classes=CLASSES, channels=1, height=24, width=30, data_sha256=_sha256(card))
    model = SavedModel(network or Grey(), recipe, spec, "cells-0")
    return evaluate(model, data_dir, data_dir.parent / "history.csv", ReportPaths.within(data_dir.parent))


def _sha256(card: Path) -> str:
    return card.read_text().rpartition('"sha256": "')[2].partition('"')[0]


def test_the_threshold_of_cells_is_chosen_on_the_validation_split_alone(data_dir: Path) -> None:
    found = score(RAND, data_dir).metrics
    # On the test split 0.3 would do; it may not be asked.
    assert found["test/rand_threshold"] == 0.75
    assert found["test/rand_error"] == 0 == found["test/rand_error_low"]
    assert found["test/pixel_error"] == 0
    assert not [name for name in score(PLAIN, data_dir).metrics if "rand" in name]


def test_joined_cells_are_seen_where_pixels_are_nearly_all_right(data_dir: Path) -> None:
    class Leaky(Grey):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            logits[:, 1, 5, 14:16] = 9
            return logits

    found = score(RAND, data_dir, Leaky()).metrics
    assert found["test/pixel_error"] == pytest.approx(2 / (24 * 30))
    assert found["test/rand_error"] > 0.15


def test_tiles_and_flips_reach_the_network_and_leave_pixels_where_they_are(data_dir: Path) -> None:
    network = Grey()
    tiles = TileConfig(size=(16, 12), overlap=4)
    found = score(replace(RAND, tile=tiles, flips="all", batch_size=5), data_dir, network)
    plain = score(RAND, data_dir)
    averaged = {name: value for name, value in found.metrics.items() if not name.endswith("_one_position")}
    assert averaged == pytest.approx(plain.metrics, abs=1e-6)
    assert {shape[1:] for shape in network.shown} == {(1, 16, 12)}
    assert max(shape[0] for shape in network.shown) == 5
    rows = list(csv.DictReader((data_dir.parent / "per_class.csv").read_text().splitlines()))
    assert [row["score"] for row in rows] == [row["iou"] for row in rows]
    assert [row["pixels"] for row in rows] == [str(3 * (24 * 2 + 30 * 2 - 4)), str(3 * 22 * 28)]


def test_what_one_position_reaches_stands_beside_the_average(data_dir: Path) -> None:
    class Biased(Grey):
        """Takes the left half of what it is shown for membrane."""

        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            half = images.shape[3] // 2
            logits[:, 0, :, :half], logits[:, 1, :, :half] = np.log(0.7), np.log(0.3)
            return logits

    one, both = (score(replace(PLAIN, flips=flips), data_dir, Biased()).metrics for flips in ("none", "horizontal"))
    assert one["test/pixel_error"] > 0.4
    assert both["test/pixel_error"] == 0
    for name in ("pixel_error", "mean_iou", "loss"):
        assert both[f"test/{name}_one_position"] == one[f"test/{name}"]
    assert not any(name.endswith("_one_position") for name in one)


def test_a_foreground_that_is_no_class_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match="foreground: cel is no class of the data; expected one of membrane, cell"):
        score(replace(PLAIN, rand_error=RandErrorConfig(foreground="cel")), data_dir)
