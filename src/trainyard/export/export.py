"""Stage `export`: formats written aside, verified against the trained network, and only then put in their place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trainyard import __version__
from trainyard.data.packed import Card, Split, SplitName, file_sha256, open_split, read_card
from trainyard.data.packed import verify as verify_files
from trainyard.data.raw_form import form_of, table_of, to_json
from trainyard.errors import IntegrityError
from trainyard.export.bundle import FILES, FOLDERS, FORMAT_FILES, MANIFEST, write_manifest
from trainyard.export.card import write_card
from trainyard.export.config import Format
from trainyard.export.executorch_format import ExecutorchFile, check_installed, limits, write_executorch
from trainyard.export.inputs import Inputs, raw_inputs
from trainyard.export.int8_format import write_int8
from trainyard.export.latency import Speed, measure, measure_torch
from trainyard.export.onnx_format import write_onnx
from trainyard.export.opened import OnnxFile, Opened
from trainyard.export.preprocessing import constants
from trainyard.export.pt2_format import Pt2File, write_pt2
from trainyard.export.quality import Quality, check_quality
from trainyard.export.samples import check_samples, write_samples
from trainyard.export.verify import Asked, Parity, ask, compare
from trainyard.files import write_whole
from trainyard.models.build import in_raw_units
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.models.turned import seen_from
from trainyard.tasks.primary import PRIMARY

EXAMPLE_SAMPLES = 2
OPENERS: dict[Format, Callable[[Path], Opened]] = {
    "onnx": OnnxFile,
    "onnx_int8": lambda path: OnnxFile(path, "onnx_int8"),
    "pt2": Pt2File,
    "executorch": ExecutorchFile,
}
PREFIXES: dict[str, str] = {"onnx": ""}
"""Of a format's metrics, where it is not its own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What stage `evaluate` wrote, as far as a bundle holds it."""

    report: Mapping[str, Any]
    figures: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What came out, beside the files."""

    path: Path
    """The ONNX file in fp32."""
    metrics: dict[str, float]
    """Size, latency, throughput, memory and parity of each format."""
    tags: dict[str, str]
    """What tells this version of the model from others: its data, its formats, its quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What all formats are made from and held against."""

    saved: SavedModel
    network: nn.Module
    test: Split
    asked: list[Asked]
    """What torch answers, for every format to be held against."""
    folder: Path
    metadata: dict[str, str]
    tokenizer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """A format that passed."""

    bytes: int
    parity: Parity
    speed: Speed
    quality: Quality | None = None


def export(saved: SavedModel, data_dir: Path, model_dir: Path, evaluated: Evaluated | None = None) -> Exported:
    """Write a trained network in the recipe's formats, verified on real test samples, with all that is needed to use it.

    Args:
        saved: the network and its recipe.
        data_dir: what it was trained and evaluated on.
        model_dir: where the bundle goes, beside what training wrote.
        evaluated: the evaluation, for the card, and for the temperature of probabilities.

    Raises:
        IntegrityError: a file does not agree with the network; no file of an export is left in `model_dir`.
        MachineError: a format cannot express the network, or its package is missing.
    """
    config = saved.recipe.export
    if "executorch" in config.formats:
        check_installed()
    card, splits = _open(saved, data_dir)
    reading = _reading(saved, evaluated)
    clear(model_dir)
    model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=model_dir) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        raw, tokenizer = to_json(form_of(saved.recipe.data, card)), _tokenizer(data_dir)
        network = seen_from(in_raw_units(saved.network.eval(), saved.spec), saved.recipe.evaluate.flips)
        work = _Work(
            saved=saved,
            network=network,
            test=splits["test"],
            asked=ask(network, splits["test"], config.verify_samples),
            folder=folder,
            metadata=_metadata(saved, raw, tokenizer, reading),
            tokenizer=tokenizer,
        )
        _write_stated(folder, saved, raw, tokenizer)
        write_samples(folder / "samples", work.test, work.network, saved.spec, reading, tokenizer)
        (folder / "formats").mkdir()
        # DVC warns of a folder with nothing in it, as if something were missing.
        (folder / "formats" / "README.txt").write_text("What `export.formats` in params.yaml asks for besides ONNX.\n")
        # In this order, whatever the recipe's: int8 is made from the file in fp32.
        found: dict[Format, _Verified] = {}
        for form in OPENERS:
            if form in config.formats:
                found[form] = _make(form, work, splits.get("train"))
        torch_speed = measure_torch(work.network, work.test, config.latency_runs)
        _write_parity(folder / "parity.json", saved, found)
        described: dict[str, Any] = {"torch": {"speed": _json(torch_speed)}}
        described.update((form, _described(one)) for form, one in found.items())
        report, figures = (evaluated.report, evaluated.figures) if evaluated else (None, None)
        write_card(folder, saved, card, report, figures, described)
        about = {
            "recipe": saved.recipe.name,
            "family": saved.recipe.family,
            "kind": saved.spec.kind,
            "fingerprint": saved.fingerprint,
            "data_sha256": saved.spec.data_sha256,
            **reading,
            "formats": {form: FORMAT_FILES[form] for form in found},
        }
        write_manifest(folder, model_dir, about)
        for name in (*FILES, *FOLDERS, MANIFEST):  # the list comes last: without it there is no bundle
            os.replace(folder / name, model_dir / name)
    path = model_dir / FORMAT_FILES["onnx"]
    return Exported(path=path, metrics=_metrics(found, torch_speed), tags=_tags(saved, path, found, evaluated))


def clear(model_dir: Path) -> None:
    """Delete what an export before this one left."""
    for name in (MANIFEST, *FILES):
        (model_dir / name).unlink(missing_ok=True)
    for path in (*(model_dir / name for name in FOLDERS), *model_dir.glob(".export-*")):
        shutil.rmtree(path, ignore_errors=True)


def _open(saved: SavedModel, data_dir: Path) -> tuple[Card, dict[SplitName, Split]]:
    """Return the data's card and the splits that are needed, once their files are hashed."""
    card = read_card(data_dir)
    if card.sha256 != saved.spec.data_sha256:
        raise IntegrityError(
            f"{data_dir}: holds data {card.sha256[:12]}, the model was trained on {saved.spec.data_sha256[:12]}; "
            "run `dvc repro` to train it on these"
        )
    calibrated = "onnx_int8" in saved.recipe.export.formats and saved.recipe.family != "lstm"
    names: tuple[SplitName, ...] = ("train", "test") if calibrated else ("test",)
    verify_files(data_dir, replace(card, arrays={name: card.arrays[name] for name in names}))
    return card, {name: open_split(data_dir, name, card) for name in names}


def _reading(saved: SavedModel, evaluated: Evaluated | None) -> dict[str, float | None]:
    """Return how logits become probabilities and labels, as the evaluation chose it on the validation split."""
    if evaluated is None:
        return {"temperature": 1.0, "threshold": None}
    report = evaluated.report
    if report.get("fingerprint") != saved.fingerprint:
        raise IntegrityError(
            f"{saved.recipe.name}: its evaluation is of {report.get('fingerprint')}, the model is {saved.fingerprint}; "
            "run `dvc repro`"
        )
    temperature = report.get("calibration", {}).get("temperature")
    return {
        "temperature": 1.0 if temperature is None else float(temperature),
        "threshold": report["metrics"].get("test/threshold"),
    }


def _metadata(
    saved: SavedModel, raw: Mapping[str, Any], tokenizer: str | None, reading: Mapping[str, float | None]
) -> dict[str, str]:
    metadata = {
        "recipe": saved.recipe.name,
        "family": saved.recipe.family,
        "fingerprint": saved.fingerprint,
        "trainyard.version": __version__,
        "raw": json.dumps(raw),
        **{name: json.dumps(value) for name, value in reading.items()},
    }
    if (table := table_of(saved.recipe.data)) is not None:
        metadata["table"] = json.dumps(table)
    return metadata if tokenizer is None else {**metadata, "tokenizer": tokenizer}


def _tokenizer(data_dir: Path) -> str | None:
    path = data_dir / "tokenizer.json"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write_stated(folder: Path, saved: SavedModel, raw: dict[str, Any], tokenizer: str | None) -> None:
    """Write what a graph says inside once more, for those who cannot look into it."""
    (folder / "preprocessing").mkdir()
    if tokenizer is not None:
        (folder / "preprocessing" / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    stated = constants(saved.spec, raw)
    if "executorch" in saved.recipe.export.formats:
        stated["executorch"] = {"batch": 1, "at_most": limits(saved.spec)}
    for name, values in (("labels.json", list(saved.spec.classes)), ("preprocessing/constants.json", stated)):
        (folder / name).write_text(f"{json.dumps(values, indent=2, ensure_ascii=False)}\n", encoding="utf-8")


def _make(form: Format, work: _Work, train: Split | None) -> _Verified:
    """Write one format, and hold it against the network.

    Raises:
        IntegrityError, MachineError: as `export`.
    """
    config, spec, path = work.saved.recipe.export, work.saved.spec, work.folder / FORMAT_FILES[form]
    quality = None
    match form:
        case "onnx":
            write_onnx(work.network, spec, _examples(work.test), path, work.metadata)
        case "onnx_int8":
            write_int8(work.folder / FORMAT_FILES["onnx"], train, config.calibration_samples, path)
        case "pt2":
            write_pt2(work.network, spec, _odd(_examples(work.test), spec), path)
        case "executorch":
            write_executorch(work.network, spec, _odd(raw_inputs(work.test, np.arange(1)), spec), path)
    opened = OPENERS[form](path)
    if form == "onnx_int8":
        fp32 = OPENERS["onnx"](work.folder / FORMAT_FILES["onnx"])
        quality = check_quality(opened, fp32, work.network, work.test, len(spec.classes), config)
    parity = compare(opened, work.network, work.test, config, exact=form != "onnx_int8", asked=work.asked)
    if form != "onnx_int8":
        check_samples(work.folder / "samples", opened, work.test, config, spec, work.tokenizer)
    speed = measure(lambda: OPENERS[form](path), work.test, config.latency_runs)
    return _Verified(bytes=path.stat().st_size, parity=parity, speed=speed, quality=quality)


def _examples(split: Split) -> Inputs:
    return raw_inputs(split, np.arange(min(EXAMPLE_SAMPLES, len(split))))


def _odd(inputs: Inputs, spec: InputSpec) -> Inputs:
    """Return images of no round size where any size is free: of a round one it would be concluded that all are."""
    if spec.kind != "segmentation":
        return inputs
    height, width = inputs[0].shape[2:]
    return (inputs[0].tile(1, 1, 2, 2)[:, :, : height + 3, : width + 5].contiguous(),)


def _write_parity(path: Path, saved: SavedModel, found: Mapping[Format, _Verified]) -> None:
    values = {
        "max_logit_difference": saved.recipe.export.max_logit_difference,
        "max_quality_drop": saved.recipe.export.max_quality_drop,
        "formats": {
            form: {**one.parity.to_json(), **({"quality": one.quality.to_json()} if one.quality else {})}
            for form, one in found.items()
        },
    }
    write_whole(path, f"{json.dumps(values, indent=2)}\n".encode())


def _json(speed: Speed) -> dict[str, Any]:
    return {name: getattr(speed, name) for name in Speed.__slots__}


def _described(one: _Verified) -> dict[str, Any]:
    quality = {"quality": one.quality.to_json()} if one.quality else {}
    return {"bytes": one.bytes, "parity": one.parity.to_json(), "speed": _json(one.speed), **quality}


def _tags(saved: SavedModel, path: Path, found: Mapping[Format, _Verified], evaluated: Evaluated | None) -> dict[str, str]:
    tags = {
        "kind": saved.spec.kind,
        "family": saved.recipe.family,
        "data_sha256": saved.spec.data_sha256,
        "onnx_sha256": file_sha256(path),
        "formats": ", ".join(found),
    }
    primary = PRIMARY[saved.spec.kind]
    if evaluated is not None and (value := evaluated.report["metrics"].get(f"test/{primary}")) is not None:
        tags[f"test.{primary}"] = f"{value:.4f}"
    return tags


def _metrics(found: Mapping[Format, _Verified], torch_speed: Speed) -> dict[str, float]:
    """Return the numbers by which exports are compared; those of fp32 ONNX have no prefix."""
    metrics: dict[str, float] = {}
    for form, one in found.items():
        prefix = PREFIXES.get(form, f"{form}_")
        metrics[f"{prefix}size_bytes"] = float(one.bytes)
        metrics[f"{prefix}parity_max_difference"] = one.parity.max_difference
        metrics[f"{prefix}parity_samples"] = float(one.parity.samples)
        metrics |= one.speed.metrics(prefix)
        metrics[f"{prefix}speedup"] = round(torch_speed.latency_p50_ms / one.speed.latency_p50_ms, 3)
        if one.quality is not None:
            metrics[f"{prefix}{one.quality.metric}"] = one.quality.value
            metrics[f"{prefix}quality_drop"] = one.quality.drop
    return {**metrics, **torch_speed.metrics("torch_")}
