"""Answers as JSON, and the schemas of what is asked and answered, made from a model's own signature."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from trainyard.data.image_files import FORMATS
from trainyard.data.raw_form import ImageForm, TextForm
from trainyard.serving.answers import Answer, Forecast, Label, Mask
from trainyard.serving.model_file import Signature
from trainyard.serving.options import Options

Schema = dict[str, Any]
NUMBER: Schema = {"type": "number"}
LARGEST = float(np.finfo(np.float32).max)
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def as_json(answer: Answer) -> dict[str, Any]:
    """Return plain values of one answer."""
    match answer:
        case Label():
            return {
                "label": answer.label,
                "class": answer.number,
                "probability": answer.probability,
                "probabilities": answer.probabilities.tolist(),
            }
        case Mask():
            height, width = answer.size
            return {
                "mask": base64.b64encode(answer.png()).decode(),
                "height": height,
                "width": width,
                "confidence": answer.confidence,
                "shares": answer.shares,
            }
        case Forecast():
            return {"forecast": [dict(zip(answer.targets, step, strict=True)) for step in answer.values.tolist()]}


def about(signature: Signature) -> dict[str, Any]:
    """Return what a client may want to know of a model."""
    form = signature.form
    found: dict[str, Any] = {
        "model": signature.recipe,
        "kind": signature.kind,
        "classes": list(signature.classes),
        "fingerprint": signature.fingerprint,
        "sha256": signature.sha256,
    }
    if isinstance(form, ImageForm):
        size = form.size or ("as it is", "as it is")
        found["image"] = {"channels": form.channels, "height": size[0], "width": size[1], "resize": form.resize}
    elif isinstance(form, TextForm):
        found["text"] = {"columns": list(form.columns), "max_tokens": signature.max_length}
    else:
        found["series"] = {
            "columns": list(signature.columns),
            "context_length": signature.context_length,
            "horizon": signature.horizon,
            "missing": form.missing,
        }
    return found


def request_body(signature: Signature, options: Options) -> Schema:
    """Return the OpenAPI description of what a model is asked."""
    form, most = signature.form, options.inputs_at_once
    if isinstance(form, ImageForm):
        files = ", ".join(FORMATS)
        return _body(
            {
                "multipart/form-data": _object({"images": _list({"type": "string", "format": "binary"}, most)}),
                "application/json": _object(
                    {"images": _list({"type": "string", "contentEncoding": "base64", "description": f"A file: {files}."}, most)}
                ),
            }
        )
    if isinstance(form, TextForm):
        text: Schema = {"type": "string", "minLength": 1, "maxLength": options.inputs.characters}
        columns = {name: {"type": "string"} for name in form.columns}
        either: Schema = text if len(columns) == 1 else {"anyOf": [text, _object(columns, closed=False)]}
        return _body({"application/json": _object({"texts": _list(either, most)})})
    # As large as 32 bits can hold.
    cell: Schema = {
        "type": "number" if form.missing == "refuse" else ["number", "null"],
        "minimum": -LARGEST,
        "maximum": LARGEST,
    }
    row = _object(dict.fromkeys(signature.columns, cell), closed=False)
    rows: Schema = {
        "type": "array",
        "items": row,
        "minItems": signature.context_length,
        "maxItems": options.inputs.rows,
        "description": "One row for each step, the oldest first.",
    }
    return _body({"application/json": _object({"series": _list(rows, most)})})


def response_schema(signature: Signature) -> Schema:
    """Return the schema of what a model answers."""
    classes = list(signature.classes)
    match signature.kind:
        case "segmentation":
            one = {
                "mask": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "description": "A PNG: each pixel's value is its class.",
                },
                "height": {"type": "integer"},
                "width": {"type": "integer"},
                "confidence": SHARE,
                "shares": _object(dict.fromkeys(classes, SHARE)),
            }
        case "forecasting":
            step = _object(dict.fromkeys(classes, NUMBER))
            one = {"forecast": {"type": "array", "items": step, "minItems": signature.horizon, "maxItems": signature.horizon}}
        case _:
            one = {
                "label": {"enum": classes},
                "class": {"type": "integer", "minimum": 0, "maximum": len(classes) - 1},
                "probability": SHARE,
                "probabilities": {"type": "array", "items": SHARE, "minItems": len(classes), "maxItems": len(classes)},
            }
    return _object(
        {
            "model": {"type": "string"},
            "fingerprint": {"type": "string"},
            "predictions": {"type": "array", "items": _object(one)},
        }
    )


ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["rule", "field", "found", "expected"],
            "properties": {name: {"type": "string"} for name in ("rule", "field", "found", "expected")},
        }
    },
}


def _body(content: dict[str, Schema]) -> Schema:
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def _object(properties: dict[str, Schema], closed: bool = True) -> Schema:
    schema: Schema = {"type": "object", "required": list(properties), "properties": properties}
    return {**schema, "additionalProperties": False} if closed else schema


def _list(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}
