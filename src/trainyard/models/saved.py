"""A trained network on disk: model.safetensors (weights only, nothing that could run) and recipe.json beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trainyard.data.packed import file_sha256
from trainyard.errors import IntegrityError
from trainyard.files import own_sha256, write_whole
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe, recipe_from_json

FORMAT = 1
"""Raised when recipe.json changes so that older ones cannot be read."""


@dataclass(frozen=True)
class SavedModel:
    """A trained network in evaluation mode, and what it was made from."""

    network: nn.Module
    """Takes `Batch.inputs`, gives logits."""
    recipe: Recipe
    spec: InputSpec
    fingerprint: str


def save_model(
    weights_path: Path, recipe_path: Path, weights: Mapping[str, Tensor], recipe: Recipe, spec: InputSpec, mark: str
) -> str:
    """Write weights and recipe, neither of which is ever seen half-written; return the sha256 of the weights' file."""
    # Not by safetensors' own writer, whose error for a full disk is no OSError.
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, {"trainyard.fingerprint": mark}
    )
    write_whole(weights_path, content)
    weights_sha256 = hashlib.sha256(content).hexdigest()
    values = {
        "format": FORMAT,
        "fingerprint": mark,
        "recipe": recipe.to_json(),
        "spec": asdict(spec),
        "weights_sha256": weights_sha256,
    }
    values["sha256"] = own_sha256(values)
    write_whole(recipe_path, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())
    return weights_sha256


def load_model(folder: Path) -> SavedModel:
    """Read the model in `folder`.

    Raises:
        IntegrityError: a file is missing, of another version, or does not fit the other.
    """
    weights_path, recipe_path = folder / "model.safetensors", folder / "recipe.json"
    try:
        values: dict[str, Any] = json.loads(recipe_path.read_text(encoding="utf-8"))
        _verify(weights_path, recipe_path, values)
        weights = load_file(weights_path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{error.filename}: no such file; train the recipe first") from None
    except (ValueError, SafetensorError) as error:
        raise IntegrityError(f"{folder}: cannot be read ({error}); train the recipe again") from None
    if values.get("format") != FORMAT:
        found = values.get("format")
        raise IntegrityError(f"{recipe_path}: format {found}, this version reads {FORMAT}; train the recipe again")
    recipe = recipe_from_json(values["recipe"], recipe_path)
    spec = _spec_from_json(values["spec"])
    network = build_network(recipe.model, spec)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(f"{weights_path}: does not fit {recipe_path.name} ({error}); train it again") from None
    return SavedModel(network.eval(), recipe, spec, values["fingerprint"])


def _verify(weights_path: Path, recipe_path: Path, values: dict[str, Any]) -> None:
    """Compare both files with the hashes they were written with; those of older versions have none.

    Raises:
        IntegrityError: one changed since it was written.
    """
    changed = None
    if "sha256" in values and values["sha256"] != own_sha256(values):
        changed = recipe_path
    elif "weights_sha256" in values and values["weights_sha256"] != file_sha256(weights_path):
        changed = weights_path
    if changed is not None:
        raise IntegrityError(
            f"{changed}: is not what training wrote; run `trainyard repair --cache`, then `dvc repro` to have it made again"
        )


def _spec_from_json(values: dict[str, Any]) -> InputSpec:
    tuples = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return InputSpec(**{**values, **tuples})
