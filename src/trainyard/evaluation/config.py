"""Block `evaluate` of a recipe: how a trained model is scored and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trainyard.evaluation.tile_grid import TileConfig, tile_axes
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.unet_config import UNetConfig
from trainyard.params import Count, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class RandErrorConfig:
    """The Rand error of the ISBI 2012 challenge; the threshold is chosen on the validation split."""

    foreground: str
    """The class whose connected regions are the cells; all other classes lie between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How the test split is scored. Nothing here changes the model."""

    batch_size: Count = 256
    """Samples in one forward pass, or tiles."""
    bootstrap_samples: Count = 1000
    """Resamples of the test split from which the 95 % intervals are taken."""
    baseline: bool = True
    """Train a classical model on the same split and score it beside the network."""
    shown_samples: Count = 12
    """Test samples in the figure of predictions."""
    tile: TileConfig | None = None
    """For masks: label images in overlapping tiles. None: each image at once."""
    flips: Literal["none", "horizontal", "all"] = "none"
    """For images. Average the probabilities of the image and its mirror image, left to right; all: of the image turned and
    mirrored in all eight ways. Scores are then those of the average, with those of one position beside them, and exported
    graphs average too, so that what leaves is what was scored: at twice, or eight times, the computation."""
    rand_error: RandErrorConfig | None = None
    """For masks: also score how cells are split and merged. None: pixels alone are compared."""
    temperature: Literal["none", "fit"] = "none"
    """For classes. fit: divide the logits by the number at which validation samples have the lowest cross-entropy, and report
    calibration before and after. No label changes."""
    threshold: Literal["none", "fit"] = "fit"
    """For two classes. fit: also score at the probability at which validation samples are labelled best."""
    interval: Annotated[float, Field(gt=0, lt=1)] | None = 0.9
    """For series: the share of future values that the interval around each forecast is to hold. None: no intervals."""
    season: Count = 24
    """Steps after which a series is expected to repeat, for the seasonal naive forecast: 24 for hours of a day."""
    seed: Seed = 0
    """Of the bootstrap and of the baseline."""


def misfits(config: EvaluateConfig, model: object, classes: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return what a network cannot be scored with: key, what was found, what is expected.

    Args:
        config: of the scoring.
        model: the network's config.
        classes: of the data, none where they are not known yet.
    """
    found = []
    if config.flips != "none" and not isinstance(model, UNetConfig | CNNConfig):
        found.append(("flips", f"{config.flips} needs images", "remove it"))
    if not isinstance(model, UNetConfig):
        asked = {"tile": config.tile, "rand_error": config.rand_error}
        wrong = "needs masks, which only family: unet learns"
        return found + [(key, wrong, "remove it") for key, value in asked.items() if value]
    if config.tile is not None:
        try:
            tile_axes(config.tile, model)
        except ValueError as error:
            said, _, fix = str(error).partition("; ")
            found.append(("tile", said, fix))
    if config.rand_error is not None and classes and config.rand_error.foreground not in classes:
        name = config.rand_error.foreground
        found.append(("rand_error", f"foreground: {name} is no class", f"expected one of {', '.join(classes)}"))
    return found
