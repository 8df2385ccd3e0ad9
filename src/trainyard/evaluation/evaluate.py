"""Stage `evaluate`: the test split through the best weights, a baseline beside it, tables and figures."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.data.packed import Card, Split, SplitName, open_split, read_card, verify
from trainyard.data.raw import Kind
from trainyard.data.spreadsheet import text_cell, write_table
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation import figures, samples
from trainyard.evaluation.augmentation_figure import augmented_samples
from trainyard.evaluation.baseline import Baseline, run_baseline
from trainyard.evaluation.calibration_figure import reliability_diagram
from trainyard.evaluation.choices import NONE, Choices, choose, needs_validation
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.forecast_report import report_forecasts
from trainyard.evaluation.metrics import Estimate, Floats, bootstrap, by_class, estimate, scores, total
from trainyard.evaluation.paths import ReportPaths
from trainyard.evaluation.predictions import Predictions, predict, predicted_batches
from trainyard.evaluation.report import (
    PART,
    SCORE,
    calibration_part,
    charted,
    classes_part,
    tempered_metrics,
    worst_labels,
    worst_numbers,
    write_report,
)
from trainyard.evaluation.result_columns import label_columns, mask_columns
from trainyard.evaluation.results import About, sha256_of_test, write_results
from trainyard.evaluation.tiles import segmenter
from trainyard.files import write_whole
from trainyard.models.saved import SavedModel
from trainyard.tasks.primary import PRIMARY

BY_CLASS: dict[Kind, str] = {"image_classification": "f1", "text_classification": "f1", "segmentation": "iou"}
"""The metric by which the classes of model and baseline are compared."""
UNITS: dict[Kind, str] = {"segmentation": "pixels", "text_classification": "texts", "image_classification": "images"}
"""What is labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came out, beside the files."""

    metrics: dict[str, float]
    baseline: str | None
    """What the baseline is, in words."""
    by_class: dict[str, float]
    """The metrics of the classes, by names that a tracking server takes."""


def evaluate(saved: SavedModel, data_dir: Path, history_path: Path, paths: ReportPaths) -> Evaluation:
    """Score a trained model and a baseline on the test split, and write metrics, results by sample, tables and figures.

    Raises:
        IntegrityError: the packed data changed since they were prepared, or are not those of the training.
    """
    config, kind = saved.recipe.evaluate, saved.spec.kind
    # What an attempt before this one drew is no part of it.
    shutil.rmtree(paths.figures, ignore_errors=True)
    val = needs_validation(config, kind, len(saved.spec.classes))
    wanted: dict[SplitName, bool] = {"train": config.baseline, "val": val, "test": True}
    card, splits = open_verified(data_dir, saved, tuple(name for name, asked in wanted.items() if asked))
    about = About(
        recipe=saved.recipe.name,
        fingerprint=saved.fingerprint,
        kind=kind,
        primary=PRIMARY[kind],
        classes=saved.spec.classes,
        test_sha256=sha256_of_test(card),
    )
    if kind == "forecasting":
        found = Evaluation(**report_forecasts(saved, splits, about, paths), by_class={})
    else:
        found = _report_classes(saved, splits, about, paths)
    write_whole(paths.metrics, f"{json.dumps(found.metrics, indent=2)}\n".encode())
    if saved.recipe.train.augment is not None:
        seen = open_verified(data_dir, saved, ("train",))[1]["train"]
        augmented_samples(saved, seen, data_dir, paths.figures / "augmentation.png")
    figures.learning_curves(history_path, PRIMARY[kind], paths.figures / "learning_curves.png")
    return found


def _report_classes(saved: SavedModel, splits: Mapping[SplitName, Split], about: About, paths: ReportPaths) -> Evaluation:
    """Score a classifier of samples or pixels and its baseline; write what came out of it."""
    config, kind, classes = saved.recipe.evaluate, saved.spec.kind, saved.spec.classes
    train, test = splits.get("train"), splits["test"]
    network, batch_size = segmenter(saved.network, saved.recipe.model, config)
    choices = NONE
    if (val := splits.get("val")) is not None:
        foreground = None if config.rand_error is None else class_number(config.rand_error.foreground, classes)
        choices = choose(predicted_batches(network, val, batch_size), val, config, len(classes), foreground)
    predictions = predict(network, test, batch_size, choices)
    baseline = None if train is None else run_baseline(train, test, len(classes), config.seed)
    metrics = all_metrics(kind, predictions, baseline, config) | chosen_metrics(kind, predictions, choices, config)
    metrics |= _one_position(saved, test)
    described = classes_part(classes, class_columns(kind, predictions, baseline))
    write_per_class(paths.per_class, kind, classes, predictions, baseline)
    parts = {"metrics": metrics, "classes": described, "calibration": calibration_part(predictions, choices)}
    description = baseline.description if baseline else None
    write_report(paths.report, about, len(test), description, parts)
    _write_samples(test, predictions, about, paths)
    _draw(saved, test, predictions, baseline, choices, paths.figures)
    return Evaluation(metrics=metrics, baseline=description, by_class=charted(described))


def _one_position(saved: SavedModel, test: Split) -> dict[str, float]:
    """Return what averaging over positions is to be held against; nothing where images are seen in one position anyway."""
    config = saved.recipe.evaluate
    if config.flips == "none":
        return {}
    network, batch_size = segmenter(saved.network, saved.recipe.model, replace(config, flips="none"))
    counts = predict(network, test, batch_size).counts
    return {f"test/{name}_one_position": float(value) for name, value in scores(test.kind, total(counts)).items()}


def _write_samples(test: Split, predictions: Predictions, about: About, paths: ReportPaths) -> None:
    """Write what came out for each sample, and the table of the worst ones."""
    if test.kind == "segmentation":
        iou = samples.sample_iou(predictions.counts)
        columns = mask_columns(predictions, iou)
        shown = {name: values for name, values in columns.items() if values.ndim == 1}
        worst_numbers(paths.worst, test, -iou, shown)
    else:
        columns = label_columns(test, predictions)
        worst_labels(paths.worst, test, predictions, about.classes)
    write_results(paths.results, about, test, columns)


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


def open_verified(data_dir: Path, saved: SavedModel, names: tuple[SplitName, ...]) -> tuple[Card, dict[SplitName, Split]]:
    """Return the card of the data that a model was trained on, and splits of them, once their files are hashed.

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
    return card, {name: open_split(data_dir, name, card) for name in names}


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


def chosen_metrics(kind: Kind, predictions: Predictions, choices: Choices, config: EvaluateConfig) -> dict[str, float]:
    """Return what was chosen on the validation split, and what it does on the test split."""
    found: dict[str, float] = {}
    if choices.rand is not None:
        found["test/rand_threshold"] = choices.rand.threshold
    if choices.temperature is not None and predictions.tempered is not None:
        found |= {"test/temperature": choices.temperature, **tempered_metrics(predictions.tempered)}
    if choices.threshold is not None and predictions.at_threshold is not None:
        primary = PRIMARY[kind]
        value = float(scores(kind, total(predictions.at_threshold))[primary])
        resampled = bootstrap(kind, predictions.at_threshold, config.bootstrap_samples, config.seed)
        found["test/threshold"] = choices.threshold
        found |= _flat(f"test/{primary}_at_threshold", estimate(value, resampled[primary]))
    return found


def class_columns(kind: Kind, predictions: Predictions, baseline: Baseline | None) -> dict[str, Floats]:
    """Return by class (K,): its samples or pixels in the test split, its metrics, and the baseline's."""
    columns = by_class(kind, total(predictions.counts))
    compared = BY_CLASS[kind]
    if baseline is not None:
        columns[f"baseline_{compared}"] = by_class(kind, total(baseline.predictions.counts))[compared]
    return columns


def write_per_class(
    path: Path, kind: Kind, classes: tuple[str, ...], predictions: Predictions, baseline: Baseline | None
) -> None:
    """Write one row a class; its score is what classes are compared by."""
    columns = class_columns(kind, predictions, baseline)
    columns[SCORE] = columns[BY_CLASS[kind]]
    rows = [
        [text_cell(name), *(_cell(column, float(values[number])) for column, values in columns.items())]
        for number, name in enumerate(classes)
    ]
    write_table(path, [PART, *columns], rows)


def _with_intervals(
    prefix: str, kind: Kind, predictions: Predictions, config: EvaluateConfig
) -> tuple[dict[str, float], dict[str, Floats]]:
    resampled = bootstrap(kind, predictions.counts, config.bootstrap_samples, config.seed)
    found: dict[str, float] = {}
    for name, value in scores(kind, total(predictions.counts)).items():
        found |= _flat(f"{prefix}/{name}", estimate(float(value), resampled[name]))
    # Without an interval: resampled, it is too large on average, and the percentiles would not be those of its error.
    found[f"{prefix}/ece"] = predictions.reliability.error
    return found, resampled


def _flat(name: str, metric: Estimate) -> dict[str, float]:
    return {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if column in ("support", "pixels") else f"{value:.4f}"


def _draw(
    saved: SavedModel, test: Split, predictions: Predictions, baseline: Baseline | None, choices: Choices, folder: Path
) -> None:
    kind, classes, shown = saved.spec.kind, saved.spec.classes, saved.recipe.evaluate.shown_samples
    figures.confusion_matrix(predictions.confusion, classes, UNITS[kind], folder / "confusion_matrix.png")
    compared = BY_CLASS[kind]
    figures.class_bars(
        by_class(kind, total(predictions.counts))[compared],
        by_class(kind, total(baseline.predictions.counts))[compared] if baseline else None,
        classes,
        compared,
        baseline.description if baseline else "",
        folder / "classes.png",
    )
    after = predictions.tempered.reliability if predictions.tempered else None
    path = folder / "calibration.png"
    reliability_diagram(predictions.reliability, after, choices.temperature, UNITS[kind], path)
    draw = {
        "segmentation": samples.mask_samples,
        "text_classification": samples.text_samples,
        "image_classification": samples.image_samples,
    }[kind]
    draw(test, predictions, classes, shown, folder / "samples.png")
    if kind == "image_classification":
        samples.worst_images(test, predictions, classes, shown, folder / "worst.png")
