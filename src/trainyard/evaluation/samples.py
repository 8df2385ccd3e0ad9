"""Figures of single test samples with what the model says of them: wrong ones first, then right ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.evaluation.figures import GREEN, GREY, INK, RED, STYLE, save
from trainyard.evaluation.lettering import fill_some, room, shorten, wrap
from trainyard.evaluation.metrics import SampleCounts
from trainyard.evaluation.predictions import Predictions

COLOURS = (
    *(
        "#2563c9",
        "#f08c2e",
        "#2f9e55",
        "#d63b3b",
        "#8a5cd0",
        "#8c5a3c",
        "#e667b0",
        "#a8a81c",
        "#17b3c4",
        "#1b2a6b",
    ),
    *("#f5b800", "#7bd389", "#5c1a33", "#9ad0f5", "#005f4b", "#ff9c8a"),
)
"""Of the classes of a mask, without the greys that an image is made of."""
OUTCOMES = (
    ("true negative", "#b4b4b4"),
    ("true positive", "#009e73"),
    ("false positive", "#d55e00"),
    ("false negative", "#0072b2"),
    ("other class", "#cc79a7"),
)
"""What a pixel's label is, by its number, and its colour, which all eyes tell apart (Okabe and Ito 2008). Negatives stay as the
image is."""
COLUMNS = 6
"""Images in a row, where they are not much wider than high."""
CELL, CAPTION = 1.75, 0.45
"""Inches: least width of an image in a row, and height of its caption."""
LETTER, HEADING_LETTER = 0.078, 0.098
"""Inches that a small letter of a caption, or of a heading, is wide."""
TEXT_WIDTH = 86
"""Small letters in a line of a text panel."""
TEXT_LINES = 5
MASK_ROWS = 6
"""Most images in the figure of masks."""
LEGEND_NAME = 20
"""Small letters of a name below masks, at most."""
LARGE_SIDE = 256
"""Pixels from which images are shown larger, and fewer of them."""
DRAWN_SIDE = 512
"""Pixels of a figure's image; larger ones become squares of their pixels first."""
STRIP = 64
"""Rows of squares that are coloured at once."""


def image_samples(split: Split, predictions: Predictions, classes: Sequence[str], shown: int, path: Path) -> Path:
    """Draw test images with true and predicted class: the most confident mistakes first."""
    chosen = mistakes_first(split.arrays["labels"], predictions, shown)
    captions = [_caption(split, predictions, classes, index, 16) for index in chosen]
    return _image_grid(split, chosen, captions, _headline(split, predictions), path)


def worst_images(split: Split, predictions: Predictions, classes: Sequence[str], shown: int, path: Path) -> Path:
    """Draw the test images whose true class was given the least probability, with that probability."""
    if predictions.probabilities is None or predictions.counts.losses is None:
        raise ValueError("these predictions hold no probabilities")
    chosen = np.argsort(-predictions.counts.losses, kind="stable")[:shown]
    captions = []
    for index in chosen:
        truth, predicted = int(split.arrays["labels"][index]), int(predictions.classes[index])
        is_it = f"is {shorten(classes[truth], 14)}: {_percent(float(predictions.probabilities[index, truth]))}"
        said = f"said {shorten(classes[predicted], 14)}: {predictions.confidence[index]:.1%}"
        captions.append((f"{said}\n{is_it}", GREEN if truth == predicted else RED))
    title = f"The {len(chosen)} worst of {len(split):,} test samples: the true class was given the least probability"
    return _image_grid(split, chosen, captions, title, path)


def _image_grid(split: Split, chosen: NDArray[np.int64], captions: Sequence[tuple[str, str]], title: str, path: Path) -> Path:
    """Draw images in rows, each under its caption in a colour."""
    height, width = split.arrays["images"].shape[2:]
    # Long images, as of lines of text, would be lines themselves where there are six in a row.
    most = COLUMNS if width < 2 * height else 3 if width < 5 * height else 2
    columns = min(most, len(chosen))
    side = CELL * COLUMNS / most
    cell = max(side, LETTER * max(room(line) for caption, _ in captions for line in caption.split("\n")) + 0.1)
    cell_height = CAPTION + side * min(1.0, max(height / width, 0.05))
    rows = -(-len(chosen) // columns)
    figure_width = max(cell * columns, 4.0)
    heading = wrap(title, int(figure_width / HEADING_LETTER))
    with rc_context(STYLE):
        figure = Figure(figsize=(figure_width, cell_height * rows + 0.2 + 0.2 * len(heading)), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index, (caption, colour) in zip(grid, chosen, captions, strict=False):
            show_image(axes, split.arrays["images"][index])
            axes.set_title(caption, color=colour, fontsize=8.5, loc="center")
        figure.suptitle("\n".join(heading), x=0.01, ha="left", fontweight="bold", fontsize=11)
        return save(figure, path)


def text_samples(split: Split, predictions: Predictions, classes: Sequence[str], shown: int, path: Path) -> Path:
    """Draw test texts with true and predicted class: the most confident mistakes first."""
    chosen = mistakes_first(split.arrays["labels"], predictions, shown)
    rows = -(-len(chosen) // 2)
    texts = [fill_some(split.text(index), TEXT_WIDTH, TEXT_LINES) for index in chosen]
    heights = [1.8 + max(text.count("\n") + 1 for text in texts[2 * row : 2 * row + 2]) for row in range(rows)]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 0.19 * sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False, height_ratios=heights).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index, text in zip(grid, chosen, texts, strict=False):
            caption, colour = _caption(split, predictions, classes, index, 26)
            axes.axvline(0, color=colour, linewidth=4)
            axes.set_xlim(0, 1)
            points = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
            heading = caption.replace("\n", "   ")
            # A line that is wider than thought ends with its panel, and moves none.
            for note in (
                axes.annotate(heading, xytext=(9, 0), color=colour, fontsize=9, fontweight="bold", **points),
                axes.annotate(text, xytext=(9, -15), fontsize=8.5, linespacing=1.35, **points),
            ):
                note.set_in_layout(False)
                note.set_clip_on(True)
                note.set_clip_box(axes.bbox)
        figure.suptitle(_headline(split, predictions), x=0.01, ha="left", fontweight="bold", fontsize=11)
        return save(figure, path)


def mask_samples(split: Split, predictions: Predictions, classes: Sequence[str], shown: int, path: Path) -> Path:
    """Draw images beside true mask, predicted mask and errors, from the worst to the best of the split."""
    iou, rand = sample_iou(predictions.counts), predictions.counts.rand_errors
    ranked = np.argsort(iou, kind="stable")
    # Half of them the worst, half spread over all others: what goes wrong, and what is usual.
    inches, rows = (3.4, MASK_ROWS // 2) if max(split.arrays["masks"].shape[1:]) > LARGE_SIDE else (2.05, MASK_ROWS)
    shown = min(shown, rows, len(split))
    worst = ranked[: shown - shown // 2]
    others = ranked[np.linspace(len(worst), len(ranked) - 1, shown // 2).astype(int)]
    colours = class_colours(len(classes))
    outcome_colours = np.array([to_rgb(colour) for _, colour in OUTCOMES])
    height, width = split.arrays["masks"].shape[1:]
    with rc_context(STYLE):
        # A row of wide images is low.
        figure = Figure(
            figsize=(4 * inches + 0.4, max(inches * min(1, height / width), 0.7) * shown + 1.1), layout="constrained"
        )
        grid = figure.subplots(shown, 4, squeeze=False)
        for axes, title in zip(grid[0], ("image", "truth", "prediction", "right and wrong"), strict=True):
            axes.set_title(title, loc="center")
        for row, index in zip(grid, [*worst, *others], strict=True):
            image, truth = split.arrays["images"][index], np.asarray(split.arrays["masks"][index])
            outcome = pixel_outcomes(truth, predictions.classes[index])
            show_image(row[0], image)
            show_image(row[1], image, truth, colours)
            show_image(row[2], image, predictions.classes[index], colours)
            show_image(row[3], image, outcome, outcome_colours)
            score = f"IoU {iou[index]:.2f}" + (f", Rand error {rand[index]:.2f}" if rand is not None else "")
            row[0].set_ylabel(score, fontsize=9, color=RED if index in worst else INK)
        outcomes = OUTCOMES if len(classes) > 2 else OUTCOMES[:-1]
        seen = np.union1d(split.arrays["masks"][[*worst, *others]], predictions.classes[[*worst, *others]])
        shown_classes = [(classes[number], tuple(colours[number].tolist())) for number in seen if number > 0]
        _legend(figure, [("right and wrong:", outcomes), ("classes:", shown_classes)])
        title = f"Test samples: the {len(worst)} worst of {len(split):,}" + (", then others" if len(others) else "")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        return save(figure, path)


def pixel_outcomes(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the number in OUTCOMES of each pixel (H, W); class 0 is the background, positive is every other."""
    outcomes = np.zeros(truth.shape, dtype=np.uint8)
    outcomes[(truth > 0) & (predicted == truth)] = 1
    outcomes[(truth == 0) & (predicted > 0)] = 2
    outcomes[(truth > 0) & (predicted == 0)] = 3
    outcomes[(truth > 0) & (predicted > 0) & (predicted != truth)] = 4
    return outcomes


def mistakes_first(labels: NDArray[np.integer], predictions: Predictions, shown: int) -> NDArray[np.int64]:
    """Return up to `shown` samples: confident mistakes, two thirds if there are, then unsure right ones."""
    labels = np.asarray(labels)
    by_confidence = np.argsort(-predictions.confidence, kind="stable")
    right = (predictions.classes == labels)[by_confidence]
    wrong = by_confidence[~right][: max(shown - shown // 3, shown - int(right.sum()))]
    return np.concatenate([wrong, by_confidence[right][::-1][: shown - len(wrong)]])


def sample_iou(counts: SampleCounts) -> NDArray[np.float64]:
    """Return the mean IoU of each image (N,) over the classes that it shows or is said to show."""
    union = counts.truth + counts.predicted - counts.overlap
    occurs = union > 0
    iou = np.divide(counts.overlap, union, out=np.zeros_like(union), where=occurs)
    mean: NDArray[np.float64] = iou.sum(axis=1) / occurs.sum(axis=1)
    return mean


def class_colours(count: int) -> NDArray[np.float64]:
    """Return a colour for each class (count, 3); class 0, the background, is grey."""
    few = count - 1 <= len(COLOURS)
    colours = COLOURS[: count - 1] if few else colormaps["gist_rainbow"](np.linspace(0, 1, count - 1))
    return np.array([to_rgb(colour) for colour in (GREY, *colours)])


def show_image(
    axes: Axes,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer] | None = None,
    palette: NDArray[np.float64] | None = None,
) -> None:
    """Show an image (C, H, W) under the colour (K, 3) of each label (H, W) but 0; small ones are enlarged without smoothing."""
    height, width = image.shape[1:]
    size = max(1, max(height, width) // DRAWN_SIDE)
    rows = size * STRIP
    # In strips, as colours in double precision take 24 times as much memory as the image's grey does.
    shown = np.concatenate(
        [
            _shrunk(_coloured(image[:, top : top + rows], None if labels is None else labels[top : top + rows], palette), size)
            for top in range(0, height, rows)
        ]
    )
    # A large image shrinks: every so many of its pixels would be noise, their mean is what one sees.
    axes.imshow(shown, interpolation="antialiased" if max(image.shape[1:]) > LARGE_SIDE else "nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _coloured(
    image: NDArray[np.uint8], labels: NDArray[np.integer] | None, palette: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return an image (H, W, 3), 0..1."""
    # One or two channels: the first as grey; more than three: the first three.
    pixels = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    shown: NDArray[np.float64] = np.moveaxis(pixels, 0, -1) / 255
    if labels is None or palette is None:
        return shown
    return np.where((labels > 0)[..., None], 0.15 * shown + 0.85 * palette[labels], 0.45 + 0.55 * shown)


def _shrunk(shown: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the mean of each square of so many pixels a side; what is left at the end is left out."""
    if size == 1:
        return shown
    height, width = shown.shape[0] // size, shown.shape[1] // size
    squares = shown[: height * size, : width * size].reshape(height, size, width, size, 3)
    small: NDArray[np.float64] = squares.mean(axis=(1, 3))
    return small


def _legend(figure: Figure, groups: Sequence[tuple[str, Sequence[tuple[str, Any]]]]) -> None:
    """Write groups of names and colours under a figure, each from a row of its own on, after its title."""
    longest = max(room(shorten(name, LEGEND_NAME)) for _, group in groups for name, _ in group)
    columns = int(np.clip((figure.get_figwidth() - 1.7) / (0.47 + 0.063 * longest), 2, 10))
    nothing = Patch(alpha=0, label=" ")
    rows = []
    for title, group in groups:
        # matplotlib leaves out a label that begins with an underscore.
        patches = [Patch(color=colour, label=f" {shorten(name, LEGEND_NAME)}") for name, colour in group]
        for start in range(0, len(patches), columns):
            row = patches[start : start + columns]
            rows.append([nothing if start else Patch(alpha=0, label=title), *row, *[nothing] * (columns - len(row))])
    # matplotlib fills columns first.
    by_column = [patch for column in zip(*rows, strict=True) for patch in column]
    figure.legend(handles=by_column, loc="outside lower center", ncols=columns + 1, fontsize=8.5, columnspacing=1.2)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%" if share >= 1e-5 else "< 0.001%"


def _caption(split: Split, predictions: Predictions, classes: Sequence[str], index: int, width: int) -> tuple[str, str]:
    truth, predicted = int(split.arrays["labels"][index]), int(predictions.classes[index])
    said = f"{shorten(classes[predicted], width)} ({predictions.confidence[index]:.0%})"
    if truth == predicted:
        return f"{said}\nright", GREEN
    return f"said {said}\nis {shorten(classes[truth], width)}", RED


def _headline(split: Split, predictions: Predictions) -> str:
    wrong = int(np.count_nonzero(predictions.classes != np.asarray(split.arrays["labels"])))
    order = "the most confident mistakes, then the least sure right ones"
    return f"{wrong:,} of {len(split):,} test samples wrong: {order}"
