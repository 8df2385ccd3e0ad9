"""ONNX: one self-contained file that takes raw pixels, tokens or numbers and holds all that is needed to read its answer."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from trainyard.errors import MachineError, first_line
from trainyard.models.spec import InputSpec

METADATA_FORMAT = 1
"""Raised when the metadata changes so that older readers fail."""

Inputs = tuple[Tensor, ...]


def input_names(spec: InputSpec) -> list[str]:
    """Return the names of the graph's inputs."""
    return {"text_classification": ["tokens", "lengths"], "forecasting": ["values", "lengths"]}.get(spec.kind, ["images"])


def output_name(spec: InputSpec) -> str:
    """Return the name of the graph's output."""
    return "forecast" if spec.kind == "forecasting" else "logits"


def dynamic_axes(spec: InputSpec) -> tuple[dict[int, str], ...]:
    """Return which axes of each input may have any size, and their names."""
    match spec.kind:
        case "text_classification" | "forecasting":
            return ({0: "batch", 1: "length"}, {0: "batch"})
        case "segmentation":
            return ({0: "batch", 2: "height", 3: "width"},)
        case "image_classification":
            return ({0: "batch"},)


def write_onnx(network: nn.Module, spec: InputSpec, example: Inputs, path: Path, metadata: dict[str, str]) -> None:
    """Write a network, with its preprocessing, as one ONNX file.

    Args:
        network: takes raw inputs, in evaluation mode.
        spec: shape of the inputs and the classes.
        example: inputs of 2 or more samples; a batch of 1 would be taken for a constant.
        path: the file; nothing else is written beside it.
        metadata: what to store beside `spec`: recipe, tokenizer, fingerprint, temperature; it wins.

    Raises:
        MachineError: the exporter cannot express a layer.
    """
    # torch keeps the unrolled form of an LSTM from an earlier export in the same process, with its length as a constant.
    torch.ops.aten.lstm.input._dispatch_cache.clear()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                example,
                input_names=input_names(spec),
                output_names=[output_name(spec)],
                dynamic_shapes=dynamic_axes(spec),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise MachineError(
            f"onnx: {first_line(error.__cause__ or error)}; the network has a layer that ONNX cannot express: "
            "leave onnx out of export.formats, or change the layer"
        ) from error
    finally:
        exporter_log.setLevel(level)
    if program is None:
        raise MachineError("onnx: the exporter returned nothing; leave onnx out of export.formats")
    model = program.model_proto
    for body in (model.graph, *model.functions):
        forget_origin(body.node)
    for entry, value in {**spec_metadata(spec), **metadata}.items():
        model.metadata_props.add(key=entry, value=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path, save_as_external_data=False)


def forget_origin(nodes: Iterable[onnx.NodeProto]) -> None:
    """Delete what the exporter notes about each node: the lines of code it comes from, with their folders on this machine."""
    for node in nodes:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                forget_origin(graph.node)


def spec_metadata(spec: InputSpec) -> dict[str, str]:
    """Return what a reader of the file needs: classes, kind, and the constants of the preprocessing inside."""
    values: dict[str, Any] = {
        "trainyard.format": METADATA_FORMAT,
        "kind": spec.kind,
        "classes": list(spec.classes),
        "data_sha256": spec.data_sha256,
        "precision": "fp32",
    }
    if spec.kind == "forecasting":
        # What goes in and comes out is in the columns' own units; mean and std say what the graph does inside.
        values |= {
            "columns": list(spec.columns),
            "context_length": spec.context_length,
            "horizon": spec.horizon,
            "mean": list(spec.mean),
            "std": list(spec.std),
        }
    elif spec.mean:
        values |= {"pixel_scale": 255, "mean": list(spec.mean), "std": list(spec.std)}
    if spec.vocabulary_size:
        values |= {"padding_token": 0, "unknown_token": 1, "max_length": spec.max_length}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
