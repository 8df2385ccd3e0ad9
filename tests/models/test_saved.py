from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainyard.data.packed import read_card
from trainyard.errors import IntegrityError
from trainyard.models.build import build_network
from trainyard.models.saved import load_model, save_model
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path, packed_digits: Path, make_recipe: Callable[..., Recipe]) -> Path:
    """A trained model as stage `train` leaves it."""
    recipe, spec = make_recipe(), InputSpec.from_card(read_card(packed_digits))
    weights = build_network(recipe.model, spec).state_dict()
    save_model(tmp_path / "model.safetensors", tmp_path / "recipe.json", weights, recipe, spec, "digits-0")
    return tmp_path


def test_a_model_comes_back_as_it_was_saved(folder: Path) -> None:
    saved = load_model(folder)
    assert saved.fingerprint == "digits-0"
    assert not saved.network.training
    again = load_model(folder).network.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in saved.network.state_dict().items())


@pytest.mark.parametrize("sixteenth", range(16))
def test_one_flipped_bit_anywhere_in_the_weights_is_noticed(folder: Path, sixteenth: int) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[min(len(content) - 1, len(content) * sixteenth // 15)] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model.safetensors: is not what training wrote; run `trainyard repair --cache`"):
        load_model(folder)


def test_a_changed_recipe_beside_the_weights_is_noticed(folder: Path) -> None:
    path = folder / "recipe.json"
    values = json.loads(path.read_text())
    values["spec"]["classes"] = list(reversed(values["spec"]["classes"]))
    path.write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match=r"recipe.json: is not what training wrote"):
        load_model(folder)


def test_a_model_of_a_version_that_wrote_no_hashes_is_still_read(folder: Path) -> None:
    path = folder / "recipe.json"
    values = json.loads(path.read_text())
    del values["sha256"], values["weights_sha256"]
    path.write_text(json.dumps(values))
    assert load_model(folder).fingerprint == "digits-0"
