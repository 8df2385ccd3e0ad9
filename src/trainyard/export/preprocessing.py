"""The constants of the preprocessing, stated for those who cannot use the graph that has it inside."""

from __future__ import annotations

from typing import Any

from trainyard.models.spec import InputSpec


def constants(spec: InputSpec, raw: dict[str, Any]) -> dict[str, Any]:
    """Return what becomes of a raw input, step by step, and which of the steps the graphs do themselves.

    Args:
        spec: of the data.
        raw: how a file was read, as the metadata `raw` of the ONNX file say it.
    """
    values: dict[str, Any] = {"kind": spec.kind, "raw": raw}
    match spec.kind:
        case "image_classification" | "segmentation":
            side = "any" if spec.kind == "segmentation" else None
            values["input"] = {
                "name": "images",
                "type": "uint8",
                "shape": ["batch", spec.channels, side or spec.height, side or spec.width],
                "order": "grey" if spec.channels == 1 else "red, green, blue",
            }
            values["outside_the_graph"] = "decode the file, turn it upright, resize it bilinearly with anti-aliasing"
            values["inside_the_graph"] = {
                "formula": "(pixel / pixel_scale - mean) / std",
                "pixel_scale": 255,
                "mean": list(spec.mean),
                "std": list(spec.std),
            }
        case "text_classification":
            values["input"] = {
                "tokens": {"type": "int64", "shape": ["batch", "length"], "padding": 0},
                "lengths": {"type": "int64", "shape": ["batch"]},
            }
            values["outside_the_graph"] = {
                "tokenizer": "tokenizer.json, as the library tokenizers reads it",
                "max_length": spec.max_length,
                "unknown_token": 1,
                "text_without_tokens": [1],
            }
        case "forecasting":
            values["input"] = {
                "values": {"type": "float32", "shape": ["batch", "length", spec.num_features], "columns": list(spec.columns)},
                "lengths": {"type": "int64", "shape": ["batch"]},
                "context_length": spec.context_length,
            }
            values["inside_the_graph"] = {
                "formula": "(value - mean) / std",
                "mean": list(spec.mean),
                "std": list(spec.std),
                "output": "forecast * std + mean of the targets, which are the first columns",
                "targets": list(spec.classes),
                "horizon": spec.horizon,
            }
    return values
