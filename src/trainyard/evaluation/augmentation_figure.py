"""The figure of augmentation: a row for each of some training samples, as it is, then as the first epochs saw it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainyard.data.batches import Batch, gather
from trainyard.data.packed import Split
from trainyard.data.raw import Kind
from trainyard.evaluation.figures import BLUE, GREY, INK, MUTED, STYLE, save
from trainyard.evaluation.lettering import fill_some, shorten, wrap
from trainyard.evaluation.samples import class_colours, show_image
from trainyard.models.saved import SavedModel
from trainyard.tasks.augment_config import used
from trainyard.tasks.augmentation import build_augmentation

ROWS: dict[Kind, int] = {"image_classification": 6, "segmentation": 4, "forecasting": 4, "text_classification": 5}
"""Samples that are shown."""
EPOCHS = {"image_classification": 7, "segmentation": 5, "forecasting": 3, "text_classification": 2}
"""Epochs that are shown, at most."""
WIDTHS = {"image_classification": 1.4, "segmentation": 2.1, "forecasting": 3.2, "text_classification": 4.0}
"""Of a column, in inches."""
NAME_LETTERS = 12
"""Of a sample's name beside it, for each inch of its height."""
TEXT_WIDTH, TEXT_LINES = 62, 6


def augmented_samples(saved: SavedModel, train: Split, data_dir: Path, path: Path) -> Path:
    """Draw some training samples as they are, and as the first epochs of the training saw them.

    Args:
        saved: a model whose recipe augments.
        train: the training split.
        data_dir: where the tokenizer of texts is.
        path: of the PNG.
    """
    recipe, kind = saved.recipe.train, saved.spec.kind
    augment = build_augmentation(recipe.augment, kind, recipe.seed, saved.spec.mean)
    chosen = np.unique(np.linspace(0, len(train) - 1, min(ROWS[kind], len(train))).astype(np.int64))
    original = gather(train, chosen)
    flatness = _flatness(train)
    stretch = 2 if flatness < 0.5 else 1
    epochs = range(min(EPOCHS[kind] // stretch, recipe.epochs))
    versions = [original, *(augment(gather(train, chosen, epoch=epoch)) for epoch in epochs)]
    title = ", ".join(f"{name}: {_shown(value)}" for name, value in (used(recipe.augment) if recipe.augment else {}).items())
    with rc_context(STYLE):
        width = WIDTHS[kind] * stretch * len(versions)
        heading = wrap(f"Training samples, augmented by {title or 'nothing'}", int(10.5 * width))
        texts = _texts(versions, data_dir / "tokenizer.json") if kind == "text_classification" else []
        heights = _heights(kind, len(chosen), texts, stretch * flatness)
        figure = Figure(figsize=(width, sum(heights) + 0.55 + 0.2 * len(heading)), layout="constrained")
        grid = figure.subplots(len(chosen), len(versions), squeeze=False, height_ratios=heights)
        for axes, name in zip(grid[0], ["as it is", *(f"epoch {epoch + 1}" for epoch in epochs)], strict=True):
            axes.set_title(name, fontsize=9, loc="left" if texts else "center")
        match kind:
            case "image_classification" | "segmentation":
                _draw_images(grid, versions, train, chosen, saved.spec.classes, int(NAME_LETTERS * heights[0]))
            case "forecasting":
                _draw_series(grid, versions, train, saved.spec.classes)
            case "text_classification":
                _write_texts(grid, texts)
        figure.suptitle("\n".join(heading), x=0.01, ha="left", fontweight="bold", fontsize=11)
        return save(figure, path)


def _flatness(train: Split) -> float:
    """Return the height of images over their width, at most 1; 1 for other samples."""
    if "images" not in train.arrays:
        return 1.0
    height, width = train.arrays["images"].shape[2:]
    return float(min(1.0, height / width))


def _heights(kind: Kind, rows: int, texts: list[list[str]], flatness: float) -> list[float]:
    """Return the height of each row in inches."""
    if texts:
        return [0.16 * max(text.count("\n") + 1 for text in row) + 0.12 for row in texts]
    return [max(WIDTHS[kind] * (0.55 if kind == "forecasting" else flatness), 0.5)] * rows


def _draw_images(
    grid: NDArray[Any],
    versions: Sequence[Batch],
    train: Split,
    chosen: NDArray[np.int64],
    classes: Sequence[str],
    letters: int,
) -> None:
    colours = class_colours(len(classes))
    has_masks = train.kind == "segmentation"
    for column, batch in enumerate(versions):
        for row, axes in enumerate(grid[:, column]):
            image = batch.inputs[0][row].round().clamp(0, 255).byte().numpy()
            if has_masks:
                mask = batch.targets[row].numpy()
                # Fainter than in the figure of predictions: here the image counts as much as its mask.
                image = np.repeat(image[:1], 3, axis=0) if len(image) < 3 else image[:3]
                tinted = 0.7 * image + 0.3 * 255 * np.moveaxis(colours[mask], -1, 0)
                image = np.where(mask > 0, tinted, image).astype(np.uint8)
            show_image(axes, image)
            if column == 0:
                name = train.sample_name(int(chosen[row])) if has_masks else classes[int(batch.targets[row])]
                axes.set_ylabel(shorten(name, letters), fontsize=8.5, color=MUTED)


def _draw_series(grid: NDArray[Any], versions: Sequence[Batch], train: Split, targets: Sequence[str]) -> None:
    for row, line in enumerate(grid):
        target = row % len(targets)
        mean, std = (float(train.arrays[name][target]) for name in ("mean", "std"))
        limits = []
        for axes, batch in zip(line, versions, strict=True):
            original, seen = (_whole(version, row, target) * std + mean for version in (versions[0], batch))
            steps = np.arange(-batch.inputs[0].shape[1], batch.targets.shape[1])
            axes.plot(steps, original, GREY if batch is not versions[0] else INK, linewidth=1.0)
            if batch is not versions[0]:
                axes.plot(steps, seen, BLUE, linewidth=1.0)
            axes.axvline(-0.5, color=GREY, linewidth=0.8)
            axes.grid(axis="y")
            limits += [seen.min(), seen.max()]
        margin = 0.05 * (max(limits) - min(limits)) or 1.0
        for axes in line:
            axes.set_ylim(min(limits) - margin, max(limits) + margin)
            axes.tick_params(labelsize=7.5, labelleft=axes is line[0], labelbottom=row == len(grid) - 1)
        line[0].set_ylabel(shorten(targets[target], 18), fontsize=8.5)


def _whole(batch: Batch, row: int, target: int) -> NDArray[np.float64]:
    """Return what is seen of one target and what follows it."""
    parts = [batch.inputs[0][row, :, target].numpy(), batch.targets[row, :, target].numpy()]
    return np.concatenate(parts).astype(np.float64)


def _texts(versions: Sequence[Batch], tokenizer: Path) -> list[list[str]]:
    """Return each sample's versions as wrapped text; a token that an epoch does not see is a line of its length."""
    vocabulary = _vocabulary(tokenizer)
    original = versions[0].inputs[0].tolist()
    rows = []
    for row, tokens in enumerate(original):
        seen = [batch.inputs[0][row].tolist() for batch in versions]
        names = [vocabulary.get(token, "?") for token in tokens if token]
        shown = [
            " ".join(
                name if new == old else "_" * max(2, len(name)) for name, new, old in zip(names, version, tokens, strict=False)
            )
            for version in seen
        ]
        rows.append([fill_some(text, TEXT_WIDTH, TEXT_LINES) for text in shown])
    return rows


def _write_texts(grid: NDArray[Any], texts: list[list[str]]) -> None:
    for axes, text in zip(grid.ravel(), [text for row in texts for text in row], strict=True):
        axes.axis("off")
        axes.text(0, 1, text, va="top", fontsize=8, linespacing=1.3, transform=axes.transAxes)


def _vocabulary(path: Path) -> dict[int, str]:
    """Return the token of each id of a tokenizer.json."""
    words: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    return {number: word for word, number in words.items()}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{number:g}" for number in value) if isinstance(value[0], float) else " x ".join(map(str, value))
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
