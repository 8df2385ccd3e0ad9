"""A training that begins with word vectors, up to the model that answers words which no training text has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer

from trainyard.data.packed import read_card
from trainyard.data.prepare import prepare
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.params import ParamsError
from trainyard.recipe import Recipe, read_recipe
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

ANIMALS = [f"animal{number}" for number in range(60)]
TOOLS = [f"tool{number}" for number in range(60)]
SEEN = 40
"""Words of each that stand in training texts; the others are only in the file of vectors."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of animals and of tools, and vectors in which these two are apart from each other."""
    folder = tmp_path_factory.mktemp("vectors")
    draw = np.random.default_rng(0)
    lines = [
        f"{' '.join(draw.choice(words[:SEEN], 3))} {number},{label}"
        for number in range(150)
        for words, label in ((ANIMALS, "animal"), (TOOLS, "tool"))
    ]
    (folder / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    centres = {"animal": draw.normal(size=8), "tool": draw.normal(size=8)}
    vectors = ((word, 3 + centres[word.rstrip("0123456789")] + 0.3 * draw.normal(size=8)) for word in ANIMALS + TOOLS)
    (folder / "words.vec").write_text("".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in vectors))
    return folder


TRAIN = {"epochs": 4, "batch_size": 32, "optimizer": "adamw", "learning_rate": 1e-2, "seed": 0}


def recipe_of(folder: Path, *, vectors: bool = True, **model: object) -> Recipe:
    data = {"source": "text_table", "path": "t.csv", "text": "text", "label": "label", "tokenizer": "words"}
    if vectors:
        sha256 = hashlib.sha256((folder / "words.vec").read_bytes()).hexdigest()
        data["vectors"] = {"path": "words.vec", "sha256": sha256}  # type: ignore[assignment]
    block = {
        "family": "lstm",
        "data": data,
        "model": {"embedding_size": 8, "hidden_size": 8, "pooling": "mean_max", "embedding_scale": 0.4, **model},
        "train": TRAIN,
        "evaluate": {},
        "export": {"formats": ["onnx"]},
    }
    YAML().dump({"recipes": {"words": block}}, folder / "params.yaml")
    return read_recipe(folder / "params.yaml", "words")


def trained(folder: Path, recipe: Recipe, place: Path) -> tuple[torch.nn.Module, Tokenizer, Path]:
    data = place / "data"
    card = prepare("words", recipe.data, data, root=folder)
    (place / "s").mkdir()
    job = FitJob(recipe=recipe, data_dir=data, scratch_dir=place / "s", fingerprint="f")
    fit(job)
    network = build_network(recipe.model, InputSpec.from_card(card))
    network.load_state_dict(kept_weights(job.checkpoints, "f")[0])
    return network.eval(), Tokenizer.from_file(str(data / "tokenizer.json")), data


def accuracy_of_unseen_words(network: torch.nn.Module, tokenizer: Tokenizer) -> float:
    words = ANIMALS[SEEN:] + TOOLS[SEEN:]
    tokens = torch.tensor([tokenizer.encode(f"{word} {word} {word}").ids for word in words])
    with torch.no_grad():
        answers = network(tokens, torch.full((len(words),), 3)).argmax(1)
    return float((answers == torch.tensor([0] * 20 + [1] * 20)).float().mean())


def test_words_that_no_training_text_has_are_understood_by_their_vectors(folder: Path, tmp_path: Path) -> None:
    network, tokenizer, _ = trained(folder, recipe_of(folder), tmp_path)
    assert accuracy_of_unseen_words(network, tokenizer) > 0.9


def test_without_vectors_they_are_not(folder: Path, tmp_path: Path) -> None:
    network, tokenizer, data = trained(folder, recipe_of(folder, vectors=False), tmp_path)
    assert "vectors.npy" not in read_card(data).files
    assert accuracy_of_unseen_words(network, tokenizer) == 0.5


def test_frozen_words_are_after_a_fit_what_they_were(folder: Path, tmp_path: Path) -> None:
    network, tokenizer, data = trained(folder, recipe_of(folder, freeze_embedding=True), tmp_path)
    packed = torch.from_numpy(np.load(data / "vectors.npy"))
    rows = packed.any(1)
    assert int(rows.sum()) == 120
    given = packed[rows] - packed[rows].mean(0)
    found = network.get_parameter("embedding.weight").detach()[rows]
    assert torch.allclose(found, given * (found.std() / given.std()), atol=1e-5)
    assert accuracy_of_unseen_words(network, tokenizer) > 0.9


def test_frozen_words_without_vectors_are_refused_before_anything_is_prepared(folder: Path) -> None:
    with pytest.raises(ParamsError, match=r"recipes\.words\.model\.freeze_embedding: .*name word vectors under data\.vectors"):
        recipe_of(folder, vectors=False, freeze_embedding=True)


def test_words_of_a_series_cannot_be_frozen(folder: Path) -> None:
    data = {"source": "series_csv", "path": "s.csv", "time": "day", "targets": ["price"], "context_length": 4, "horizon": 1}
    block = {"family": "lstm", "data": data, "model": {"freeze_embedding": True}, "train": {**TRAIN, "loss": "mse"}}
    block |= {"evaluate": {}, "export": {}}
    YAML().dump({"recipes": {"prices": block}}, folder / "params.yaml")
    with pytest.raises(ParamsError, match=r"freeze_embedding: is of words, but the data are for forecasting; remove it"):
        read_recipe(folder / "params.yaml", "prices")
