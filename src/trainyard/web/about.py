"""What a page knows of its model: model.json, and the words at its top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainyard.data.docstrings import NAMES
from trainyard.data.raw_form import ImageForm, TextForm
from trainyard.serving.answers import palette
from trainyard.serving.model_file import Signature
from trainyard.web.layers import Layer
from trainyard.web.runtime import integrity

FORMAT = 1
"""Of model.json."""
MAX_PIXELS = 16_000_000
"""Of an image that a browser takes."""
SHRINK_PIXELS = 2**20
"""Larger images for a network that takes any size are made smaller, and the page says so: all its layers must fit into the
memory of a tab."""
MOST_NAMED = 3
"""Targets of a forecast at the top of a page."""
FAMILIES = {"cnn": "CNN", "unet": "U-Net", "lstm": "LSTM"}


def describe(
    signature: Signature,
    layers: Sequence[Layer],
    expected: Mapping[str, Any],
    files: Mapping[str, bytes],
    model: str,
) -> dict[str, Any]:
    """Return what a page, or the app on a phone, reads.

    Args:
        signature: of the model.
        layers: further outputs of its graph.
        expected: of the bundle's samples.
        files: of the folder that is asked for, by name: the model, the tokenizer, the samples.
        model: name of the model's file.
    """
    form = signature.form
    as_it_is = isinstance(form, ImageForm) and form.size is None
    values: dict[str, Any] = {
        "format": FORMAT,
        "recipe": signature.recipe,
        "family": signature.family,
        "kind": signature.kind,
        "fingerprint": signature.fingerprint,
        "classes": list(signature.classes),
        "form": asdict(form),
        "columns": list(signature.columns),
        "context_length": signature.context_length,
        "horizon": signature.horizon,
        "max_length": signature.max_length,
        "temperature": signature.temperature,
        "threshold": signature.threshold,
        "max_pixels": MAX_PIXELS,
        "shrink_pixels": SHRINK_PIXELS if as_it_is else None,
        "colours": palette(len(signature.classes)) if signature.kind == "segmentation" else [],
        "removed_names": removed_names(form) if isinstance(form, TextForm) else [],
        "layers": [asdict(layer) for layer in layers],
        "model": _entry(model, files),
        "tokenizer": _entry("tokenizer.json", files) if signature.tokenizer else None,
    }
    values["samples"] = [_sample(sample, files) for sample in expected["samples"]]
    return values


def words(signature: Signature) -> tuple[str, str]:
    """Return the title of the page, and what can be done there."""
    classes = f"{len(signature.classes)} classes"
    match signature.kind:
        case "image_classification":
            how = "Draw" if isinstance(signature.form, ImageForm) and signature.form.channels == 1 else "Bring an image"
            what = f"{how} and see which of {classes} a {FAMILIES[signature.family]} takes it for."
        case "segmentation":
            what = f"Bring an image and see which of {classes} a {FAMILIES[signature.family]} takes each pixel for."
        case "text_classification":
            what = f"Write and see which of {classes} an {FAMILIES[signature.family]} takes the text for."
        case "forecasting":
            few = len(signature.classes) <= MOST_NAMED
            targets = ", ".join(signature.classes) if few else f"{len(signature.classes)} columns of it"
            what = f"Bring a series and see how an {FAMILIES[signature.family]} says that {targets} will go on."
    return f"{signature.recipe} in the browser", what


def _entry(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {"file": name, "integrity": integrity(files[name]), "bytes": len(files[name])}


def _sample(sample: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    name = f"samples/{sample['file']}"
    found = {**sample, **_entry(name, files)}
    if name.endswith(".txt"):
        found["text"] = files[name].decode()
    return found


def removed_names(form: TextForm) -> list[str]:
    """Return what data.docstrings takes out of a text, where the recipe says so, in the form that it compares."""
    if not form.without_names:
        return []
    known = {name for library, others in NAMES.items() for name in (library, *others)}
    return sorted({name.casefold() for name in known | set(form.without_names)})
