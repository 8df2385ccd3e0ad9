"""What is said of a recipe before its data are packed is what training would say of it afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from trainyard.data.check import check
from trainyard.data.packed import file_sha256
from trainyard.data.prepare import prepare
from trainyard.errors import InputError, IntegrityError, TrainyardError
from trainyard.intake.check import as_json, check_fit
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe, check_data, read_recipe
from trainyard.studies.sweep import sweep

TRAIN = {"epochs": 1, "batch_size": 8, "optimizer": "adam", "learning_rate": 1e-3}
SOURCES: dict[str, dict[str, Any]] = {
    "cnn": {"source": "numpy_arrays", "path": "images", "classes": ["none", "cell"]},
    "unet": {"source": "numpy_arrays", "path": "masks", "classes": ["none", "cell"]},
    "text": {"source": "text_table", "path": "t.csv", "text": "text", "label": "label", "tokenizer": "words"},
    "series": {"source": "series_csv", "path": "s.csv", "time": "time", "targets": "all", "context_length": 8, "horizon": 2},
}
FAMILIES = {"cnn": "cnn", "unet": "unet", "text": "lstm", "series": "lstm"}
MODELS: dict[str, dict[str, Any]] = {"cnn": {"widths": [8]}, "unet": {"depth": 2, "base_width": 4}}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Raw data of each kind."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", rng.integers(0, 256, (40, 8, 12), dtype=np.uint8))
    np.save(tmp_path / "images" / "labels.npy", np.arange(40) % 2)
    np.save(tmp_path / "masks" / "masks.npy", rng.integers(0, 2, (40, 8, 12), dtype=np.uint8))
    rows = [f"{word} {number},{label}" for number in range(20) for word, label in (("sun", "good"), ("rain", "bad"))]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "words.vec").write_text("sun 1 2\nrain 3 4\nhail 5 6\n")
    steps = [f"2026-01-{1 + hour // 24:02d}T{hour % 24:02d}:00,{hour % 24},{hour}" for hour in range(200)]
    (tmp_path / "s.csv").write_text("\n".join(["time,load,heat", *steps]) + "\n")
    return tmp_path


def recipe_of(root: Path, source: str, data: dict[str, Any], model: dict[str, Any], train: dict[str, Any]) -> Recipe:
    block = {
        "family": FAMILIES[source],
        "data": SOURCES[source] | data,
        "model": MODELS.get(source, {}) | model,
        "train": TRAIN | ({"loss": "mse"} if source == "series" else {}) | train,
        "evaluate": {},
        "export": {},
    }
    YAML().dump({"recipes": {"r": block}}, root / "params.yaml")
    return read_recipe(root / "params.yaml", "r")


@pytest.mark.parametrize("source", SOURCES)
def test_data_are_said_to_be_what_they_are_packed_as(source: str, raw: Path) -> None:
    data = {"vectors": {"path": "words.vec", "sha256": file_sha256(raw / "words.vec")}} if source == "text" else {}
    recipe = recipe_of(raw, source, data, {"embedding_size": 2} if source == "text" else {}, {})
    found = check(recipe.data, raw)
    card = prepare("r", recipe.data, raw / "packed", root=raw)
    assert (found.kind, found.classes, found.columns) == (card.kind, card.classes, card.columns)
    assert (found.samples, found.input) == (card.samples, card.input)
    assert [warning.to_json() for warning in found.warnings] == list(card.warnings)
    check_fit(recipe, found, raw)


MISFITS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "halvings": ("cnn", {"widths": [8] * 5}, {}, "model: needs images of at least 32 pixels a side, the data are 8 x 12; use"),
    "crop": ("unet", {}, {"augment": {"crop": [16, 8]}}, r"train\.augment\.crop: \[16, 8\] is cut from images of 8 x 12"),
    "vectors": ("text", {"embedding_size": 8}, {}, "model: embedding_size: 8, those of data.vectors have 2 numbers; use"),
    "no file": ("cnn", {}, {"start_from": {"weights": "w.safetensors"}}, "w.safetensors: no such file; put it there"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_recipe_that_does_not_fit_its_data_is_refused_as_in_training(case: str, raw: Path) -> None:
    source, model, train, message = MISFITS[case]
    data = {"vectors": {"path": "words.vec", "sha256": file_sha256(raw / "words.vec")}} if case == "vectors" else {}
    recipe = recipe_of(raw, source, data, model, train)
    with pytest.raises(InputError, match=message) as caught:
        check_fit(recipe, check(recipe.data, raw), raw)
    card = prepare("r", recipe.data, raw / "packed", root=raw)
    with pytest.raises(InputError) as later:
        check_data(recipe, InputSpec.from_card(card), raw)
    assert str(caught.value) == str(later.value)
    document, code = as_json(recipe, raw)
    assert code == 2 and document["samples"] == card.samples
    assert [
        (found["rule"], found["where"], found["found"]) for found in document["problems"] if found["severity"] == "error"
    ] == [("recipe", "r", str(caught.value))]


@pytest.mark.parametrize("source", ["cnn", "unet", "series"])
def test_weights_to_begin_with_are_compared_with_the_network_of_the_data(source: str, raw: Path) -> None:
    recipe = recipe_of(raw, source, {}, {}, {})
    spec = InputSpec.from_card(prepare("r", recipe.data, raw / "packed", root=raw))
    torch.manual_seed(0)
    save_file(build_network(recipe.model, spec).state_dict(), raw / "w.safetensors")
    start = {"weights": "w.safetensors", "sha256": file_sha256(raw / "w.safetensors")}
    recipe = recipe_of(raw, source, {}, {}, {"start_from": start})
    found = check(recipe.data, raw)
    check_fit(recipe, found, raw)
    with pytest.raises(InputError, match=r"train\.start_from\.freeze: .* none is left to train; remove it"):
        check_fit(recipe_of(raw, source, {}, {}, {"start_from": start | {"freeze": True}}), found, raw)
    changed: dict[str, Any] = {"cnn": {"widths": [5, 7]}, "unet": {"base_width": 5}, "series": {"hidden_size": 7}}[source]
    with pytest.raises(InputError, match=r"of the network's weights, expected at least 50%; make `model:` the network"):
        check_fit(recipe_of(raw, source, {}, changed, {"start_from": start}), found, raw)
    with (raw / "w.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(IntegrityError, match=r"train\.start_from\.sha256 says"):
        check_fit(recipe, found, raw)


def test_a_sweep_does_not_begin_with_other_weights_than_its_recipe_states(raw: Path) -> None:
    save_file({"network.head.weight": torch.zeros(2, 8)}, raw / "w.safetensors")
    recipe = recipe_of(raw, "cnn", {}, {}, {"start_from": {"weights": "w.safetensors", "sha256": "0" * 64}})
    (raw / "data" / "prepared").mkdir(parents=True)
    prepare("r", recipe.data, raw / "data" / "prepared" / "r", root=raw)
    with (raw / "params.yaml").open("a") as file:
        file.write("sweep: {r: {over: {train.learning_rate: {log: [1e-4, 1e-1]}}, trials: 2}}\n")
    with pytest.raises(TrainyardError, match=r"w\.safetensors: has sha256 \w+, train\.start_from\.sha256 says 0+") as caught:
        sweep(raw, "r")
    assert caught.value.exit_code == 5
    assert not (raw / ".trainyard").exists()
