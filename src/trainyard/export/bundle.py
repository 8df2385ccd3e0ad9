"""What a trained model leaves in: one folder with all that is needed to put it to use, and a list of what is in it.

models/<recipe>/
  model.safetensors recipe.json      weights, and what they were made from                          stage train
  model.onnx                         in fp32, preprocessing inside                                  stage export
  formats/                           the other formats of the recipe: model.int8.onnx, model.pt2
  labels.json preprocessing/         classes; constants of the preprocessing, and the tokenizer of texts
  samples/                           test samples as files, and what the model says of them
  parity.json                        how closely each format follows torch
  README.md card.html pictures/      the model's card
  bundle.json                        what all of these are, with their hashes
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from trainyard import __version__
from trainyard.data.packed import file_sha256
from trainyard.errors import IntegrityError
from trainyard.files import own_sha256, write_whole

FORMAT = 1
"""Raised when bundle.json changes so that older readers fail."""
MANIFEST = "bundle.json"
MADE_BY_TRAINING = ("model.safetensors", "recipe.json")
FILES = ("model.onnx", "labels.json", "parity.json", "README.md", "card.html")
FOLDERS = ("formats", "preprocessing", "samples", "pictures")
"""All that stage `export` makes, beside the list."""
SERVED = ("model.onnx", "labels.json", "parity.json", "README.md", "preprocessing", "samples")
"""What is needed where a model is served, and is in MLflow's model with the list."""
FORMAT_FILES = {
    "onnx": "model.onnx",
    "onnx_int8": "formats/model.int8.onnx",
    "pt2": "formats/model.pt2",
    "executorch": "formats/model.pte",
}


def write_manifest(folder: Path, trained: Path, about: Mapping[str, Any]) -> None:
    """Write the list of what is in a bundle.

    Args:
        folder: what export made.
        trained: what training made, which the bundle holds as well.
        about: recipe, fingerprint, kind, and how logits are read.
    """
    made = [folder / name for name in FILES] + [path for name in FOLDERS for path in sorted((folder / name).rglob("*"))]
    files = {str(path.relative_to(folder)): _entry(path) for path in made if path.is_file()}
    files |= {name: _entry(trained / name) for name in MADE_BY_TRAINING if (trained / name).is_file()}
    values = {"format": FORMAT, "trainyard": __version__, **about, "files": dict(sorted(files.items()))}
    values["sha256"] = own_sha256(values)
    write_whole(folder / MANIFEST, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())


def read_bundle(folder: Path, only: Collection[str] | None = None) -> dict[str, Any]:
    """Return the list of what is in a bundle, once every file has been hashed.

    Args:
        folder: of the bundle.
        only: files and folders that are there; None: all of them are.

    Raises:
        IntegrityError: naming the first file that is missing or is not the one that was listed.
    """
    path = folder / MANIFEST
    again = "run `trainyard repair --cache`, then `dvc repro` to export it again"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT or values["sha256"] != own_sha256(values):
            raise ValueError("it was changed since it was written, or by another version")
        listed = {str(name): str(entry["sha256"]) for name, entry in values["files"].items()}
    except FileNotFoundError:
        raise IntegrityError(f"{path}: is not there, so nothing was exported there; `dvc repro` exports a recipe") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(f"{path}: is no list of a bundle ({error}); {again}") from None
    root = os.path.normpath(folder)
    for name, sha256 in listed.items():
        if only is not None and name.partition("/")[0] not in only:
            continue
        file = folder / name
        # By its name: a link, as DVC makes them where its cache.type is symlink, is the listed file if its hash says so.
        if not Path(os.path.normpath(file)).is_relative_to(root):
            raise IntegrityError(f"{path}: lists {name}, which is outside of the bundle; {again}")
        if not file.is_file() or file_sha256(file) != sha256:
            raise IntegrityError(f"{file}: is not the file that {MANIFEST} lists; {again}")
    return values


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}
