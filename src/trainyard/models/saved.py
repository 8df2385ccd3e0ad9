"""A trained network on disk: model.safetensors (weights only, nothing that could run) and recipe.json beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trainyard.errors import IntegrityError
from trainyard.files import write_whole
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
) -> None:
    """Write weights and recipe; neither file is ever seen half-written."""
    # Not by safetensors' own writer, whose error for a full disk is no OSError.
    write_whole(weights_path, save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))
    values = {"format": FORMAT, "fingerprint": mark, "recipe": recipe.to_json(), "spec": asdict(spec)}
    write_whole(recipe_path, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())


def load_model(folder: Path) -> SavedModel:
    """Read the model in `folder`.

    Raises:
        IntegrityError: a file is missing, of another version, or does not fit the other.
    """
    weights_path, recipe_path = folder / "model.safetensors", folder / "recipe.json"
    try:
        values: dict[str, Any] = json.loads(recipe_path.read_text(encoding="utf-8"))
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


def _spec_from_json(values: dict[str, Any]) -> InputSpec:
    tuples = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return InputSpec(**{**values, **tuples})
