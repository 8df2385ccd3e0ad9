"""An exported ONNX file, opened once it is sure that it is one whole model of ours and refers to nothing outside of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime

from trainyard.data.raw import Kind
from trainyard.data.raw_form import ImageForm, RawForm, SeriesForm, TextForm, from_json
from trainyard.data.table_form import TableForm, form_from_json
from trainyard.errors import IntegrityError, first_line
from trainyard.serving.onnx_bytes import points_elsewhere

FORMAT = "1"
"""Of the metadata, as export/onnx_format.py writes them."""
FORMS: dict[Kind, type[RawForm]] = {
    "image_classification": ImageForm,
    "segmentation": ImageForm,
    "text_classification": TextForm,
    "forecasting": SeriesForm,
}
INPUTS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "image_classification": (("images", "tensor(uint8)"),),
    "segmentation": (("images", "tensor(uint8)"),),
    "text_classification": (("tokens", "tensor(int64)"), ("lengths", "tensor(int64)")),
    "forecasting": (("values", "tensor(float)"), ("lengths", "tensor(int64)")),
}
"""Names and types of what a graph takes, by the kind of its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model takes and gives, as its file says."""

    recipe: str
    family: str
    fingerprint: str
    sha256: str
    """Of the file."""
    kind: Kind
    classes: tuple[str, ...]
    """Of the samples or pixels; the names of the targets for forecasting."""
    form: RawForm
    """How a raw input becomes what the graph takes."""
    table: TableForm = field(default_factory=TableForm)
    """How the tables that it learned from were written, where the file says so."""
    columns: tuple[str, ...] = ()
    """Of a series, targets first."""
    context_length: int = 0
    """Steps that are seen."""
    horizon: int = 0
    """Steps that are forecast."""
    max_length: int = 0
    """Tokens of a text at most."""
    temperature: float = 1.0
    """By which logits are divided, so that probabilities say how often they are right."""
    threshold: float | None = None
    """Probability from which the second of two classes is said to be there; None: the likelier one is."""
    tokenizer: str = ""
    """As the library tokenizers writes it."""


def open_model(path: Path, threads: int) -> tuple[onnxruntime.InferenceSession, Signature]:
    """Open a file for the processor.

    Args:
        path: of the ONNX file.
        threads: that one answer is computed with; 0: as many as onnxruntime likes.

    Raises:
        IntegrityError: it is missing, damaged, points at other files, or is no model that export wrote.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read ({error.strerror}); run `dvc repro` to export the recipe") from None
    return open_bytes(content, path, threads)


def open_bytes(content: bytes, path: Path, threads: int) -> tuple[onnxruntime.InferenceSession, Signature]:
    """Open what was read of `path`; see `open_model`."""
    try:
        if points_elsewhere(content):
            raise IntegrityError(f"{path}: keeps weights in another file; export it again as one file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except IntegrityError:
        raise
    except Exception as error:  # onnxruntime has exceptions of its own, without a parent
        raise IntegrityError(f"{path}: is not a whole ONNX file ({first_line(error)}); export it again") from None
    return session, _signature(session, hashlib.sha256(content).hexdigest(), path)


def _signature(session: onnxruntime.InferenceSession, sha256: str, path: Path) -> Signature:
    metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
    found = metadata.get("trainyard.format")
    if found != FORMAT:
        what = f"has metadata of format {found}" if found else "was not exported by trainyard"
        raise IntegrityError(f"{path}: {what}, this version reads format {FORMAT}; export it again")
    if "raw" not in metadata:
        raise IntegrityError(
            f"{path}: was exported by an earlier version, which did not note how raw inputs are read; "
            "run `dvc repro` to export it again"
        )
    try:
        signature = _read(metadata, sha256)
        _check(session, signature)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise IntegrityError(f"{path}: has metadata that contradict it ({error!r}); export it again") from None
    return signature


def _read(metadata: Mapping[str, str], sha256: str) -> Signature:
    kind: Any = metadata["kind"]
    form = from_json(json.loads(metadata["raw"]))
    if not isinstance(form, FORMS[kind]):
        raise ValueError(f"kind {kind} and raw inputs of {type(form).__name__}")
    classes = tuple(json.loads(metadata["classes"]))
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes are no names")
    temperature = float(json.loads(metadata.get("temperature", "1.0")))
    threshold = json.loads(metadata.get("threshold", "null"))
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature}")
    if threshold is not None and (len(classes) != 2 or not 0 <= float(threshold) <= 1):
        raise ValueError(f"threshold {threshold} and {len(classes)} classes")
    numbers = {name: int(json.loads(metadata.get(name, "0"))) for name in ("context_length", "horizon", "max_length")}
    needed = {"forecasting": ("context_length", "horizon"), "text_classification": ("max_length",)}.get(kind, ())
    if any(numbers[name] < 1 for name in needed):
        raise ValueError(f"{', '.join(needed)} must be 1 or more")
    return Signature(
        recipe=metadata["recipe"],
        family=metadata["family"],
        fingerprint=metadata["fingerprint"],
        sha256=sha256,
        kind=kind,
        classes=classes,
        form=form,
        table=form_from_json(json.loads(metadata.get("table", "{}"))),
        columns=tuple(json.loads(metadata.get("columns", "[]"))),
        temperature=temperature,
        threshold=threshold,
        tokenizer=metadata["tokenizer"] if kind == "text_classification" else "",
        **numbers,
    )


def _check(session: onnxruntime.InferenceSession, signature: Signature) -> None:
    """Compare what a file says of itself with what its graph takes."""
    taken = tuple((entry.name, entry.type) for entry in session.get_inputs())
    if taken != INPUTS[signature.kind]:
        raise ValueError(f"its graph takes {taken}, a model for {signature.kind} takes {INPUTS[signature.kind]}")
    shape = session.get_inputs()[0].shape
    form = signature.form
    if isinstance(form, ImageForm):
        wanted = (form.channels, *(form.size or (None, None)))
        fixed = zip(shape[1:], wanted, strict=True)
        if any(isinstance(side, int) and given is not None and side != given for side, given in fixed):
            raise ValueError(f"its graph takes images {shape}, its metadata say {wanted}")
    if isinstance(form, SeriesForm) and shape[2] != len(signature.columns):
        raise ValueError(f"its graph takes {shape[2]} columns, its metadata name {signature.columns}")
    if isinstance(form, SeriesForm) and signature.columns[: len(signature.classes)] != signature.classes:
        raise ValueError(f"its targets {signature.classes} are not the first of its columns {signature.columns}")
