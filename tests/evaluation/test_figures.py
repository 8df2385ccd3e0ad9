import dataclasses
import logging
import re
import tracemalloc
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from trainyard.data.packed import Split
from trainyard.evaluation import figures, samples
from trainyard.evaluation.figures import class_bars, compact, confusion_matrix, learning_curves
from trainyard.evaluation.predictions import Predictions, label_predictions, mask_predictions
from trainyard.evaluation.samples import (
    OUTCOMES,
    class_colours,
    image_samples,
    mask_samples,
    mistakes_first,
    pixel_outcomes,
    sample_iou,
    text_samples,
    worst_images,
)

CLASSES = ("background", "a class with $ and $ in its long name", "_hidden")


def is_drawn(path: Path) -> bool:
    """Return whether a file is a picture with something on it."""
    with Image.open(path) as image:
        return image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24) or []) > 20


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Bbox]:
    """Where each text of the last figure stands, in pixels; its own size is under an empty text."""
    places: dict[str, Bbox] = {}

    def measure(figure: Figure, path: Path) -> Path:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.draw_without_rendering()
        places.clear()
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        places.update({f"{number} {text.get_text()}": text.get_window_extent() for number, text in enumerate(texts)})
        places[""] = figure.bbox
        return path

    for module in (figures, samples):
        monkeypatch.setattr(module, "save", measure)
    return places


def overlapping(places: dict[str, Bbox]) -> list[tuple[str, str]]:
    """Return the texts that run into each other, or out of the figure."""
    whole = places[""].padded(1)
    outside = [
        (name, "the figure") for name, box in places.items() if not (whole.containsx(box.x0) and whole.containsx(box.x1))
    ]
    named = [(name, box) for name, box in places.items() if name]
    both = [
        (a, b) for (a, first), (b, second) in combinations(named, 2) if Bbox.intersection(first.padded(-1), second.padded(-1))
    ]
    return outside + both


def random_predictions(split: Split, classes: int) -> Predictions:
    rng = np.random.default_rng(0)
    if split.kind == "segmentation":
        logits = rng.random((len(split), classes, *split.arrays["masks"].shape[1:]))
        return mask_predictions([logits / logits.sum(axis=1, keepdims=True)], split.arrays["masks"])
    return label_predictions(rng.dirichlet(np.ones(classes), len(split)), split.arrays["labels"])


@pytest.mark.parametrize("epochs", [1, 30])
def test_learning_curves_are_drawn_from_the_history(tmp_path: Path, epochs: int) -> None:
    rows = [f"{epoch},{1 / epoch},{1.1 / epoch},{1 - 0.5 / epoch},7" for epoch in range(1, epochs + 1)]
    history = tmp_path / "history.csv"
    history.write_text("\n".join(["epoch,val/loss,train/loss,val/accuracy,seconds", *rows]) + "\n")
    assert is_drawn(learning_curves(history, "accuracy", tmp_path / "figures" / "curves.png"))


@pytest.mark.parametrize("count", [2, 11, 60])
def test_confusion_matrix_is_drawn_for_few_and_many_classes(tmp_path: Path, count: int) -> None:
    confusion = np.random.default_rng(0).integers(0, 2_000_000, (count, count))
    names = [f"class number {number}" for number in range(count)]
    assert is_drawn(confusion_matrix(confusion, names, "pixels", tmp_path / "confusion.png"))


def test_class_bars_are_drawn_with_and_without_a_baseline(tmp_path: Path) -> None:
    model, other = np.array([0.9, 0.5, np.nan]), np.array([0.4, 0.6, np.nan])
    assert is_drawn(class_bars(model, other, CLASSES, "iou", "a forest " * 20, tmp_path / "both.png"))
    assert is_drawn(class_bars(model, None, CLASSES, "iou", "", tmp_path / "alone.png"))


def test_of_hundreds_of_classes_the_worst_and_the_best_have_bars_that_can_be_read(tmp_path: Path) -> None:
    names = [f"class number {number}" for number in range(300)]
    model = np.linspace(0, 1, 300)
    swapped = model.copy()
    # Of the 260 between, which no bar is for, nothing is seen.
    swapped[20:280] = 0.5
    path = tmp_path / "bars.png"
    first, second = (class_bars(values, model, names, "f1", "a forest", path).read_bytes() for values in (model, swapped))
    assert first == second
    with Image.open(path) as image:
        # Forty pairs of bars, each as tall as those of few classes.
        assert image.height >= 0.36 * 40 * 110
    model[40:] = np.nan
    assert is_drawn(class_bars(model, None, names, "f1", "", tmp_path / "few.png"))


@pytest.mark.parametrize("shown", [1, 3, 12])
def test_long_names_of_classes_run_into_no_other_image_and_not_out_of_the_figure(
    tmp_path: Path, image_split: Split, written: dict[str, Bbox], shown: int
) -> None:
    names = [f"Corn_(maize)___Cercospora leaf spot, kind {number}" for number in range(3)]
    for draw in (image_samples, worst_images):
        draw(image_split, random_predictions(image_split, 3), names, shown, tmp_path / "a.png")
        assert overlapping(written) == []
        # What tells them apart is at their end.
        assert all(any(f"nd {number}" in text for text in written) for number in range(3)) or shown < 12


def test_images_as_wide_as_a_line_of_text_are_not_a_line_themselves(tmp_path: Path, image_split: Split) -> None:
    image_split.arrays["images"] = np.full((40, 1, 8, 160), 40, dtype=np.uint8)
    path = image_samples(image_split, random_predictions(image_split, 3), CLASSES, 2, tmp_path / "a.png")
    with Image.open(path) as image:
        dark = np.asarray(image.convert("L")) == 40
    assert dark.any(axis=1).sum() > 20


def test_the_legend_of_many_classes_with_long_names_lies_within_the_figure(
    tmp_path: Path, mask_split: Split, written: dict[str, Bbox]
) -> None:
    names = [f"a class with a long name, number {number}" for number in range(21)]
    mask_split.arrays["masks"] = (np.indices((12, 24, 24)).sum(axis=0) % 21).astype(np.uint8)
    mask_samples(mask_split, random_predictions(mask_split, 21), names, 6, tmp_path / "a.png")
    assert overlapping(written) == []
    assert all(any(text.endswith(f"er {number}") for text in written) for number in range(1, 21))


def test_masks_of_wide_images_stand_close_below_each_other(tmp_path: Path, mask_split: Split) -> None:
    heights = []
    for side in (24, 4):
        split = Split("segmentation", "test", {name: array[..., :side, :] for name, array in mask_split.arrays.items()})
        path = mask_samples(split, random_predictions(split, 3), CLASSES, 6, tmp_path / "a.png")
        with Image.open(path) as image:
            heights.append(image.height)
    assert heights[1] < 0.6 * heights[0]


@pytest.mark.parametrize("text", ["用来测试图表是否能够正确显示" * 9, "WIDE LETTERS " * 40, "a text without an end " * 20])
def test_texts_of_any_script_end_with_their_panel(
    tmp_path: Path, text_split: Split, written: dict[str, Bbox], text: str
) -> None:
    content = [text.encode()] * 30
    text_split.arrays["text"] = np.frombuffer(b"".join(content), dtype=np.uint8)
    text_split.arrays["text_offsets"] = np.arange(31) * len(content[0])
    text_samples(text_split, random_predictions(text_split, 2), CLASSES, 4, tmp_path / "a.png")
    panels = [box for name, box in written.items() if text[:20] in name]
    middle = written[""].width / 2
    assert len([box for box in panels if box.x1 <= middle + 5]) == 2
    assert len([box for box in panels if middle < box.x0 and box.x1 <= written[""].x1]) == 2


def test_long_or_wide_names_move_no_note_out_of_the_figure(tmp_path: Path, written: dict[str, Bbox]) -> None:
    names = ["狗" * 20, "a class with a very long name " * 3, "short"]
    class_bars(
        np.array([0.9, 0.5, 0.1]), np.array([0.4, 0.6, 0.2]), names, "iou", "a forest of many trees " * 9, tmp_path / "a.png"
    )
    assert overlapping(written) == []


def test_a_first_loss_of_a_million_hides_no_later_one(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    rows = [f"{epoch},{1e6 if epoch == 1 else 1 / epoch},1,0.5" for epoch in range(1, 20)]
    history.write_text("\n".join(["epoch,val/loss,train/loss,val/accuracy", *rows]) + "\n")
    drawn = learning_curves(history, "accuracy", tmp_path / "curves.svg").read_text()
    assert "<!-- 0.1 -->" in drawn
    assert "<!-- 100000 -->" in drawn


def test_the_best_of_small_errors_is_not_nothing(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,val/loss,train/loss,val/mse\n1,1,1,0.00002\n2,1,1,0.0000123\n")
    assert "best: 1.23e-05, epoch 2" in learning_curves(history, "mse", tmp_path / "curves.svg").read_text()


def test_nothing_is_said_of_fonts_without_a_bold_face(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure()
    figure.text(0, 0, "日本", fontfamily=["DejaVu Sans", "no such font"], fontweight=900)
    figures.save(figure, tmp_path / "a.png")
    assert caplog.text == ""
    assert logging.getLogger("matplotlib.font_manager").level == logging.NOTSET


def test_an_epoch_without_a_score_is_not_marked_as_the_best(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,val/loss,train/loss,val/accuracy\n1,1,1,nan\n2,1,1,0.5\n3,1,1,0.4\n")
    drawn = learning_curves(history, "accuracy", tmp_path / "curves.svg").read_text()
    assert "<!-- best: 0.5000, epoch 2 -->" in drawn


def test_a_single_epoch_is_the_one_number_below_its_curves(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,val/loss,train/loss,val/accuracy\n1,1,1,0.5\n")
    drawn = learning_curves(history, "accuracy", tmp_path / "curves.svg").read_text()
    below = drawn[drawn.index('id="matplotlib.axis_1"') : drawn.index('id="matplotlib.axis_2"')]
    assert re.findall("<!-- (.*) -->", below) == ["1", "epoch"]


@pytest.mark.parametrize("shown", [1, 12])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_image_samples_are_drawn_for_any_number_of_channels(
    tmp_path: Path, image_split: Split, channels: int, shown: int
) -> None:
    image_split.arrays["images"] = np.repeat(image_split.arrays["images"], channels, axis=1)
    predictions = random_predictions(image_split, 3)
    assert is_drawn(image_samples(image_split, predictions, CLASSES, shown, tmp_path / "samples.png"))


def test_text_samples_are_drawn_whatever_the_texts_hold(tmp_path: Path, text_split: Split) -> None:
    predictions = random_predictions(text_split, 2)
    assert is_drawn(text_samples(text_split, predictions, CLASSES, 30, tmp_path / "samples.png"))


@pytest.mark.parametrize("shown", [1, 2, 12])
def test_mask_samples_are_drawn(tmp_path: Path, mask_split: Split, shown: int) -> None:
    predictions = random_predictions(mask_split, 3)
    assert is_drawn(mask_samples(mask_split, predictions, CLASSES, shown, tmp_path / "samples.png"))


def test_masks_of_millions_of_pixels_are_drawn_in_little_memory(tmp_path: Path) -> None:
    side = 2000
    halves = np.repeat(np.array([0, 1], dtype=np.uint8), side // 2)
    masks = np.broadcast_to(halves, (1, side, side)).copy()
    split = Split("segmentation", "test", {"images": masks[:, None] * 200, "masks": masks})
    small = mask_predictions([np.full((1, 2, 2, 2), 0.5)], masks[:, :2, :2])
    predictions = dataclasses.replace(small, classes=masks)
    tracemalloc.start()
    try:
        path = mask_samples(split, predictions, ("no", "yes"), 1, tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert is_drawn(path)


def test_squares_of_a_large_image_show_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "DRAWN_SIDE", 2)
    monkeypatch.setattr(samples, "STRIP", 1)
    image = np.arange(25, dtype=np.uint8).reshape(1, 5, 5)
    axes = Figure().subplots()
    samples.show_image(axes, image)
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn[..., 0] * 255 == pytest.approx(np.array([[3.0, 5.0], [13.0, 15.0]]))


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    first, again = (
        confusion_matrix(np.eye(3, dtype=np.int64), CLASSES, "images", tmp_path / name).read_bytes()
        for name in ("first.png", "again.png")
    )
    assert first == again


def test_confident_mistakes_come_first_then_unsure_right_ones() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 0, 1])
    # 2 and 3 are wrong, 2 the surer one; of the right ones 4 is the least sure, 0 the surest.
    found = mistakes_first(labels, label_predictions(probabilities, labels), 4)
    assert found.tolist() == [2, 3, 4, 1]
    assert mistakes_first(labels, label_predictions(probabilities, labels), 99).tolist() == [2, 3, 4, 1, 0]


def test_iou_of_a_sample_is_over_the_classes_that_it_shows() -> None:
    truth = np.array([[[0, 1], [0, 1]]])
    probabilities = np.moveaxis(np.eye(3)[np.array([[[0, 1], [1, 1]]])], -1, 1)
    assert sample_iou(mask_predictions([probabilities], truth).counts) == pytest.approx([(1 / 2 + 2 / 3) / 2])


@pytest.mark.parametrize("count", [2, 11, 200])
def test_every_class_has_a_colour_of_its_own(count: int) -> None:
    colours = class_colours(count)
    assert colours.shape == (count, 3)
    assert len(np.unique(colours.round(6), axis=0)) == count


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9876, "9876"), (12_345, "12k"), (312_000, "312k"), (1_234_567, "1.2M")]
)
def test_counts_are_written_short(number: int, text: str) -> None:
    assert compact(number) == text


def test_each_pixel_is_a_true_or_false_positive_or_negative() -> None:
    truth, predicted = np.array([[0, 1, 0, 2, 1]]), np.array([[0, 1, 2, 0, 2]])
    named = [OUTCOMES[number][0] for number in pixel_outcomes(truth, predicted)[0]]
    assert named == ["true negative", "true positive", "false positive", "false negative", "other class"]


def test_the_worst_images_are_drawn(tmp_path: Path, image_split: Split) -> None:
    assert is_drawn(worst_images(image_split, random_predictions(image_split, 3), CLASSES, 7, tmp_path / "worst.png"))
