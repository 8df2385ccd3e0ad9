"""Stage `export`: formats written aside, verified against the trained network, and only then put in their place."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard import __version__
from trainyard.data.packed import Card, Split, open_split, read_card
from trainyard.data.packed import verify as verify_files
from trainyard.data.raw_form import form_of, to_json
from trainyard.errors import IntegrityError
from trainyard.export.inputs import Inputs, raw_inputs
from trainyard.export.latency import measure
from trainyard.export.onnx_format import input_names, write_onnx
from trainyard.export.verify import open_session, run, verify
from trainyard.files import write_whole
from trainyard.models.build import in_raw_units
from trainyard.models.saved import SavedModel

EXAMPLE_SAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What came out, beside the files."""

    path: Path
    """The ONNX file."""
    metrics: dict[str, float]
    """Size, latency, throughput, parity."""
    example: dict[str, NDArray[Any]]
    """Raw inputs of two real test samples, by the names of the graph's inputs."""
    logits: NDArray[np.float32]
    """What the file answers to them: logits, or forecasts in the targets' own units."""


def export(saved: SavedModel, data_dir: Path, model_path: Path, parity_path: Path) -> Exported:
    """Write a trained network as ONNX, verified on real test samples.

    Raises:
        IntegrityError: the file does not agree with the network; nothing is left at `model_path`.
    """
    config = saved.recipe.export
    card = read_card(data_dir)
    if card.sha256 != saved.spec.data_sha256:
        raise IntegrityError(
            f"{data_dir}: holds data {card.sha256[:12]}, the model was trained on {saved.spec.data_sha256[:12]}; "
            "run `dvc repro` to train it on these"
        )
    verify_files(data_dir, replace(card, arrays={"test": card.arrays["test"]}))
    split = open_split(data_dir, "test", card)
    network = in_raw_units(saved.network.eval(), saved.spec)
    temporary = model_path.with_name(f".{model_path.name}.tmp")
    model_path.unlink(missing_ok=True)
    try:
        write_onnx(network, saved.spec, _examples(split), temporary, _metadata(saved, data_dir, card))
        parity = verify(temporary, network, split, config)
        session = open_session(temporary)
        metrics = {
            "size_bytes": float(temporary.stat().st_size),
            "parity_max_difference": parity.max_difference,
            "parity_samples": float(parity.samples),
            **measure(session, network, split, config.latency_runs),
        }
        write_whole(parity_path, f"{json.dumps(parity.to_json(), indent=2)}\n".encode())
        os.replace(temporary, model_path)
    finally:
        temporary.unlink(missing_ok=True)
    inputs = _examples(split)
    example = {name: value.numpy() for name, value in zip(input_names(saved.spec), inputs, strict=True)}
    return Exported(path=model_path, metrics=metrics, example=example, logits=run(session, inputs))


def _examples(split: Split) -> Inputs:
    return raw_inputs(split, np.arange(min(EXAMPLE_SAMPLES, len(split))))


def _metadata(saved: SavedModel, data_dir: Path, card: Card) -> dict[str, str]:
    metadata = {
        "recipe": saved.recipe.name,
        "family": saved.recipe.family,
        "fingerprint": saved.fingerprint,
        "trainyard.version": __version__,
        "raw": json.dumps(to_json(form_of(saved.recipe.data, card))),
    }
    tokenizer = data_dir / "tokenizer.json"
    if tokenizer.is_file():
        metadata["tokenizer"] = tokenizer.read_text(encoding="utf-8")
    return metadata
