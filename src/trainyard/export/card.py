"""The card of a model (Mitchell 2019, arXiv:1810.03993): what it is for, what it was made from, how good it is, its limits.

Every number is taken from what the stages measured; nothing is stated that was not.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainyard.data.packed import SPLITS, Card
from trainyard.export.bundle import FORMAT_FILES
from trainyard.export.card_blocks import Block, Code, Heading, Picture, Points, Table, Text, html, markdown
from trainyard.models.saved import SavedModel
from trainyard.models.turned import POSITIONS
from trainyard.tasks.primary import LOWER_IS_BETTER, PRIMARY

PICTURES = {
    "samples.png": "Test samples, and what the model says of them.",
    "confusion_matrix.png": "True classes in rows, predicted ones in columns.",
    "classes.png": "Each class, model beside baseline.",
    "calibration.png": "How often predictions of each confidence are right.",
    "forecasts.png": "Forecasts of test windows beside what came.",
    "horizon.png": "The error by steps ahead.",
    "worst.png": "The samples that the model gets most wrong.",
    "learning_curves.png": "The training.",
}
"""Figures of the evaluation that the card shows, where they are there."""
SHOWN_CLASSES = 30
FEW = 30
"""Test samples of a class below which its numbers say little."""
WHAT = {
    "image_classification": "says which class an image belongs to",
    "segmentation": "says which class each pixel of an image belongs to",
    "text_classification": "says which class a text belongs to",
    "forecasting": "says how a series goes on",
}
RAW = {
    "image_classification": "an image file (PNG, JPEG, BMP, GIF, TIFF, WebP)",
    "segmentation": "an image file (PNG, JPEG, BMP, GIF, TIFF, WebP) of any size",
    "text_classification": "a text of any length",
    "forecasting": "the last rows of a table",
}


def write_card(
    folder: Path,
    saved: SavedModel,
    card: Card,
    report: Mapping[str, Any] | None,
    figures: Path | None,
    formats: Mapping[str, Any],
) -> None:
    """Write README.md, card.html and the pictures they show.

    Args:
        folder: of the bundle.
        saved: the model.
        card: of its data.
        report: of its evaluation; None where there is none.
        figures: of its evaluation.
        formats: by format, its size, parity, speed and, of int8, quality; `torch` holds the speed of eager torch.
    """
    pictures = folder / "pictures"
    pictures.mkdir()
    shown: list[Block] = []
    for name, caption in PICTURES.items():
        if figures is not None and (figures / name).is_file():
            shutil.copyfile(figures / name, pictures / name)
            shown.append(Picture(f"pictures/{name}", caption))
    title = f"{saved.recipe.name}: {saved.recipe.family} for {saved.spec.kind.replace('_', ' ')}"
    blocks: list[Block] = [
        Heading(title, 1),
        Text(_summary(saved, card, report)),
        *_use(saved),
        *_data(card),
        *_results(saved, report),
        *_formats(saved, formats),
        *_limits(saved, card, report, formats),
        *([Heading("Pictures"), *shown] if shown else []),
        *_identity(saved, card),
    ]
    (folder / "README.md").write_text(markdown(blocks), encoding="utf-8")
    (folder / "card.html").write_text(html(f"{title}: model card", blocks, folder), encoding="utf-8")


def _summary(saved: SavedModel, card: Card, report: Mapping[str, Any] | None) -> str:
    parameters = sum(tensor.numel() for tensor in saved.network.parameters())
    text = (
        f"This model {WHAT[saved.spec.kind]}. It was trained on {_name(card)}: {card.about.rstrip('.')}. It has {parameters:,} "
        "parameters."
    )
    if report is not None:
        metric = PRIMARY[saved.spec.kind]
        reached = _interval(report["metrics"], f"test/{metric}", metric)
        text += f" On {report['test']['samples']:,} test samples it reaches {reached}."
    return text


def _use(saved: SavedModel) -> Iterator[Block]:
    kind, name = saved.spec.kind, saved.recipe.name
    sample = {"text_classification": "0.txt", "forecasting": "0.csv"}.get(kind, "0.png")
    yield Heading("How to use it")
    yield Text(
        f"It takes {RAW[kind]}; what was done to the training data is done inside, or stated in "
        "`preprocessing/constants.json`. `samples/` holds inputs and the answers to expect. Where this package is installed:"
    )
    call = {
        "text_classification": 'Path("models/{name}/samples/0.txt").read_text()',
        "forecasting": 'list(csv.DictReader(open("models/{name}/samples/0.csv"), quoting=csv.QUOTE_NONNUMERIC))',
    }.get(kind, 'Path("models/{name}/samples/0.png").read_bytes()')
    imports = "import csv\nfrom pathlib import Path" if kind == "forecasting" else "from pathlib import Path"
    yield Code(
        f"{imports}\nfrom trainyard.serving.predictor import Predictor\n\n"
        f'predictor = Predictor.load(Path("models/{name}"))\n'
        f"print(predictor.predict([{call.format(name=name)}]))"
    )
    yield Text(
        "As the registered model, from MLflow, without the network and without the frameworks of the training. It is"
        " `@champion` once `trainyard promote` named it; its name begins with `tracking.experiment` where params.yaml has one:"
    )
    yield Code(f"mlflow models serve -m models:/{name}@challenger --env-manager local --port 5001")
    yield Text(
        "By hand: `model.onnx` in any runtime of ONNX; its metadata name classes and constants. Compare with "
        f"`samples/{sample}` and `samples/expected.json`."
    )


def _data(card: Card) -> Iterator[Block]:
    yield Heading("Data")
    rows = [("samples", *(f"{card.samples[split]:,}" for split in SPLITS))]
    for name in card.classes[:SHOWN_CLASSES]:
        rows.append((name, *(f"{card.counts[split][name]:,}" for split in SPLITS)))
    unit = {"segmentation": "pixels", "forecasting": "steps"}.get(card.kind, "samples")
    yield Table((f"{unit} of", *SPLITS), tuple(rows))
    if (more := len(card.classes) - SHOWN_CLASSES) > 0:
        yield Text(f"and {more:,} classes more.")
    if card.origin:
        yield Points(
            (
                f"Name: {card.origin['name']}",
                f"Licence: {card.origin['licence']}, {card.origin['licence_url']}",
                f"Cite: {card.origin['citation']}",
            )
        )
    elif card.libraries:
        libraries = ", ".join(f"{name} {version}" for name, version in card.libraries.items())
        yield Text(f"Licence: the data come with libraries, whose licences hold for them: {libraries}.")
    else:
        yield Text(
            "Licence: the data are the user's own; no licence was stated with them. State one before you pass the model on."
        )


def _results(saved: SavedModel, report: Mapping[str, Any] | None) -> Iterator[Block]:
    yield Heading("Results")
    if report is None:
        yield Text("It was exported without an evaluation.")
        return
    metrics, baseline = report["metrics"], report["baseline"]
    names = [
        key.removeprefix("test/")
        for key in metrics
        if key.startswith("test/") and f"{key}_low" in metrics and "_minus_" not in key
    ]
    header = ("metric", "this model", *([str(baseline)] if baseline else []))
    rows = []
    for name in names:
        other = [_interval(metrics, f"baseline/{name}")] if baseline else []
        rows.append((name, _interval(metrics, f"test/{name}"), *other))
    yield Text("On the test split, which nothing was chosen on. In brackets: 95 % intervals, from resampling the test samples.")
    yield Table(header, tuple(rows))
    primary = PRIMARY[saved.spec.kind]
    key = f"test/{primary}_minus_baseline"
    if key in metrics:
        better = "Lower is better." if primary in LOWER_IS_BETTER else "Higher is better."
        yield Text(f"Model less baseline in {primary}: {_interval(metrics, key)}. {better}")
    if (flips := saved.recipe.evaluate.flips) != "none":
        alone = metrics.get(f"test/{primary}_one_position")
        beside = "" if alone is None else f" Of one position alone, {primary} is {alone:.4f}."
        yield Text(
            f"Each image is seen in {len(POSITIONS[flips])} positions, whose probabilities are averaged; the files do that "
            f"themselves.{beside}"
        )
    if (temperature := report.get("calibration", {}).get("temperature")) is not None:
        yield Text(
            f"Logits are divided by {temperature:.3f} before they become probabilities; the files hold that number as "
            "`temperature`. It was fitted on the validation split, and changes no label."
        )


def _formats(saved: SavedModel, formats: Mapping[str, Any]) -> Iterator[Block]:
    yield Heading("Formats, and how fast they are")
    names = [name for name in ("torch", *FORMAT_FILES) if name in formats]
    reference = formats["torch"]["speed"]["latency_p50_ms"]
    rows = []
    for name in names:
        found = formats[name]
        speed = found["speed"]
        size = f"{found['bytes'] / 1e6:.2f} MB" if "bytes" in found else "-"
        parity = f"{found['parity']['max_difference']:.1e}" if "parity" in found else "-"
        memory = "-" if speed["memory_mb"] is None else f"{speed['memory_mb']:.1f} MB"
        rows.append(
            (
                f"`{FORMAT_FILES[name]}`" if name in FORMAT_FILES else "torch, eager",
                size,
                parity,
                f"{speed['latency_p50_ms']:.3f} / {speed['latency_p95_ms']:.3f}",
                f"{reference / speed['latency_p50_ms']:.1f}",
                f"{speed['batch_32_p50_ms']:.2f} / {speed['batch_32_p95_ms']:.2f}",
                f"{speed['samples_per_s_batch_32']:,.0f}",
                memory,
            )
        )
    yield Table(
        (
            "file",
            "size",
            "largest difference",
            "ms, batch 1 (p50 / p95)",
            "times as fast",
            "ms, batch 32",
            "samples/s",
            "memory",
        ),
        tuple(rows),
    )
    yield Text(
        f"Measured on {_processor()} with real test samples, while the export ran; times as fast: as torch in eager mode, at "
        "batch 1. Memory: what the opened model and one call with 32 samples add at most. The largest difference is that of "
        "logits (of forecasts in standard deviations) from torch, over the shapes in `parity.json`."
    )
    if (quality := formats.get("onnx_int8", {}).get("quality")) is not None:
        yield Text(
            f"`{FORMAT_FILES['onnx_int8']}` reaches {quality['metric']} {quality['value']:.4f} on {quality['samples']:,} test "
            f"samples where fp32 reaches {quality['fp32']:.4f}; a loss of {quality['allowed']:g} would have been refused."
        )


def _limits(saved: SavedModel, card: Card, report: Mapping[str, Any] | None, formats: Mapping[str, Any]) -> Iterator[Block]:
    spec = saved.spec
    points = [
        f"The numbers hold for inputs like the test split of {_name(card)}. For inputs from elsewhere nothing is known until "
        "they are measured.",
        f"It forecasts {', '.join(spec.classes)} for {spec.horizon:,} steps and no further."
        if spec.kind == "forecasting"
        else f"It knows {len(spec.classes):,} classes, and says one of them of anything that it is shown.",
    ]
    match spec.kind:
        case "image_classification":
            points.append(
                f"Images are brought to {spec.height} x {spec.width} pixels; what is smaller than a pixel then is lost."
            )
        case "segmentation":
            points.append(
                f"It was trained on images of {spec.height} x {spec.width} pixels; other sizes are computed, not promised."
            )
        case "text_classification":
            points.append(f"Of a text the first {spec.max_length:,} tokens are read; what follows changes nothing.")
        case "forecasting":
            points.append(
                f"It looks at {spec.context_length:,} steps; a series that changes its habits is forecast by the old ones."
            )
    rows = [] if report is None else report.get("classes", [])
    key = "pixels" if spec.kind == "segmentation" else "support"
    if few := [row["class"] for row in rows if key == "support" and row.get(key, FEW) < FEW]:
        points.append(f"Fewer than {FEW} test samples stand for {', '.join(map(str, few[:10]))}: their numbers may be chance.")
    of_class = "iou" if spec.kind == "segmentation" else "f1"
    known = sorted((row for row in rows if row.get(of_class) is not None), key=lambda row: float(row[of_class]))
    if len(known) > 2:
        worst = ", ".join(f"{row['class']} ({of_class} {row[of_class]:.3f})" for row in known[:3])
        points.append(f"It is worst at {worst}.")
    if report is not None and spec.kind != "forecasting":
        calibration = report["calibration"]["as_trained"]["ece"]
        points.append(f"Its probabilities are off by {calibration:.3f} on average (expected calibration error, as trained).")
    if card.warnings:
        points.append(f"Of the data, {len(card.warnings):,} warnings are in their card.")
    yield Heading("Limits")
    yield Points(tuple(points))


def _identity(saved: SavedModel, card: Card) -> Iterator[Block]:
    yield Heading("Where it comes from")
    yield Points(
        (
            f"Fingerprint of parameters, data and code: `{saved.fingerprint}`",
            f"Data: `{card.sha256}`",
            "All parameters: `recipe.json`. Hashes of all files: `bundle.json`.",
        )
    )


def _name(card: Card) -> str:
    return card.origin.get("name") or card.source


def _interval(metrics: Mapping[str, float], key: str, name: str = "") -> str:
    if key not in metrics:
        return "-"
    value = f"{name} {metrics[key]:.4f}".strip()
    return f"{value} ({metrics[f'{key}_low']:.4f} to {metrics[f'{key}_high']:.4f})" if f"{key}_low" in metrics else value


def _processor() -> str:
    """Return which processor this is, and how many of it."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} x {model}"
