"""Stage `evaluate`: the test split through the best weights, a baseline beside it, tables and figures."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.data.packed import Split, SplitName, open_split, read_card, verify
from trainyard.data.raw import Kind
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation import figures, samples
from trainyard.evaluation.augmentation_figure import augmented_samples
from trainyard.evaluation.baseline import Baseline, run_baseline
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.forecast_report import report_forecasts
from trainyard.evaluation.metrics import Estimate, Floats, bootstrap, by_class, estimate, scores, total
from trainyard.evaluation.predictions import Predictions, predict, predicted_batches
from trainyard.evaluation.rand_error import choose
from trainyard.evaluation.tiles import segmenter
from trainyard.files import write_whole
from trainyard.models.saved import SavedModel
from trainyard.tasks.primary import PRIMARY

BY_CLASS: dict[Kind, str] = {"image_classification": "f1", "text_classification": "f1", "segmentation": "iou"}
"""The metric by which the classes of model and baseline are compared."""


FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First signs of what a spreadsheet takes for a formula, full-width ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """The files that evaluation writes."""

    metrics: Path
    """JSON, numbers only, for DVC and the tracking server."""
    per_class: Path
    """CSV, one row a class, or a step of the horizon."""
    figures: Path
    """Folder of PNG files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came out, beside the files."""

    metrics: dict[str, float]
    baseline: str | None
    """What the baseline is, in words."""


def evaluate(saved: SavedModel, data_dir: Path, history_path: Path, paths: ReportPaths) -> Evaluation:
    """Score a trained model and a baseline on the test split, and write metrics, table and figures.

    Raises:
        IntegrityError: the packed data changed since they were prepared, or are not those of the training.
    """
    config = saved.recipe.evaluate
    # What an attempt before this one drew is no part of it.
    shutil.rmtree(paths.figures, ignore_errors=True)
    wanted: dict[SplitName, bool] = {"train": config.baseline, "val": config.rand_error is not None, "test": True}
    splits = open_verified(data_dir, saved, tuple(name for name, asked in wanted.items() if asked))
    train, test = splits.get("train"), splits["test"]
    if saved.spec.kind == "forecasting":
        metrics, baseline = report_forecasts(saved, train, test, paths.per_class, paths.figures)
    else:
        metrics, baseline = _report_classes(saved, splits, paths)
    write_whole(paths.metrics, f"{json.dumps(metrics, indent=2)}\n".encode())
    if saved.recipe.train.augment is not None:
        seen = open_verified(data_dir, saved, ("train",))["train"]
        augmented_samples(saved, seen, data_dir, paths.figures / "augmentation.png")
    figures.learning_curves(history_path, PRIMARY[saved.spec.kind], paths.figures / "learning_curves.png")
    return Evaluation(metrics=metrics, baseline=baseline)


def _report_classes(
    saved: SavedModel, splits: Mapping[SplitName, Split], paths: ReportPaths
) -> tuple[dict[str, float], str | None]:
    """Score a classifier of samples or pixels and its baseline; write the table of classes and the figures."""
    config, kind, classes = saved.recipe.evaluate, saved.spec.kind, saved.spec.classes
    train, test = splits.get("train"), splits["test"]
    network, batch_size = segmenter(saved.network, saved.recipe.model, config)
    rand = None
    if config.rand_error is not None:
        foreground = class_number(config.rand_error.foreground, classes)
        val = splits["val"]
        rand = choose(predicted_batches(network, val, batch_size), val.arrays["masks"], foreground)
    predictions = predict(network, test, batch_size, rand)
    baseline = None if train is None else run_baseline(train, test, len(classes), config.seed)
    metrics = all_metrics(kind, predictions, baseline, config)
    if rand is not None:
        metrics["test/rand_threshold"] = rand.threshold
    write_per_class(paths.per_class, kind, classes, predictions, baseline)
    _draw(saved, test, predictions, baseline, paths.figures)
    return metrics, baseline.description if baseline else None


def class_number(foreground: str, classes: tuple[str, ...]) -> int:
    """Return the number of the class whose regions are cells.

    Raises:
        InputError: the data have no such class.
    """
    if foreground not in classes:
        raise InputError(
            f"evaluate.rand_error: foreground: {foreground} is no class of the data; expected one of {', '.join(classes)}"
        )
    return classes.index(foreground)


def open_verified(data_dir: Path, saved: SavedModel, names: tuple[SplitName, ...]) -> dict[SplitName, Split]:
    """Open splits of the data that a model was trained on, once their files are hashed.

    Raises:
        IntegrityError: a file changed, or these are other data.
    """
    card = read_card(data_dir)
    if card.sha256 != saved.spec.data_sha256:
        raise IntegrityError(
            f"{data_dir}: holds data {card.sha256[:12]}, the model was trained on "
            f"{saved.spec.data_sha256[:12]}; run `dvc repro` to train it on these"
        )
    verify(data_dir, replace(card, arrays={name: card.arrays[name] for name in names}))
    return {name: open_split(data_dir, name, card) for name in names}


def all_metrics(kind: Kind, predictions: Predictions, baseline: Baseline | None, config: EvaluateConfig) -> dict[str, float]:
    """Return every metric of model and baseline with its interval, and how much better the model is.

    The interval of the difference comes from the same resamples for both. It tells more than two overlapping
    intervals do, because test samples that are hard for one are mostly hard for the other.
    """
    primary = PRIMARY[kind]
    metrics, resampled = _with_intervals("test", kind, predictions, config)
    if baseline is not None:
        others, others_resampled = _with_intervals("baseline", kind, baseline.predictions, config)
        gain = metrics[f"test/{primary}"] - others[f"baseline/{primary}"]
        difference = estimate(gain, resampled[primary] - others_resampled[primary])
        metrics |= others
        metrics |= _flat(f"test/{primary}_minus_baseline", difference)
        metrics["baseline/seconds"] = round(baseline.seconds, 2)
    return metrics


def write_per_class(
    path: Path, kind: Kind, classes: tuple[str, ...], predictions: Predictions, baseline: Baseline | None
) -> None:
    """Write one row a class: its samples or pixels in the test split, its metrics, and the baseline's."""
    columns = by_class(kind, total(predictions.counts))
    compared = BY_CLASS[kind]
    if baseline is not None:
        columns[f"baseline_{compared}"] = by_class(kind, total(baseline.predictions.counts))[compared]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["class", *columns])
    for number, name in enumerate(classes):
        cells = [_cell(column, float(values[number])) for column, values in columns.items()]
        writer.writerow([_text_cell(name), *cells])
    write_whole(path, text.getvalue().encode())


def _text_cell(text: str) -> str:
    """Return a text as no spreadsheet runs it: after a quote mark where its first sign begins a formula (OWASP, CSV injection).

    Numbers stay as they are.
    """
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


def _with_intervals(
    prefix: str, kind: Kind, predictions: Predictions, config: EvaluateConfig
) -> tuple[dict[str, float], dict[str, Floats]]:
    resampled = bootstrap(kind, predictions.counts, config.bootstrap_samples, config.seed)
    found: dict[str, float] = {}
    for name, value in scores(kind, total(predictions.counts)).items():
        found |= _flat(f"{prefix}/{name}", estimate(float(value), resampled[name]))
    return found, resampled


def _flat(name: str, metric: Estimate) -> dict[str, float]:
    return {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if column in ("support", "pixels") else f"{value:.4f}"


def _draw(saved: SavedModel, test: Split, predictions: Predictions, baseline: Baseline | None, folder: Path) -> None:
    kind, classes, shown = saved.spec.kind, saved.spec.classes, saved.recipe.evaluate.shown_samples
    unit = {"segmentation": "pixels", "text_classification": "texts", "image_classification": "images"}[kind]
    figures.confusion_matrix(predictions.confusion, classes, unit, folder / "confusion_matrix.png")
    compared = BY_CLASS[kind]
    figures.class_bars(
        by_class(kind, total(predictions.counts))[compared],
        by_class(kind, total(baseline.predictions.counts))[compared] if baseline else None,
        classes,
        compared,
        baseline.description if baseline else "",
        folder / "classes.png",
    )
    draw = {
        "segmentation": samples.mask_samples,
        "text_classification": samples.text_samples,
        "image_classification": samples.image_samples,
    }[kind]
    draw(test, predictions, classes, shown, folder / "samples.png")
