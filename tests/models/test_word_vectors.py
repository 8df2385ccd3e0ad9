from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainyard.errors import InputError
from trainyard.models.build import build_network
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec, check_input
from trainyard.models.word_vectors import take_vectors

SPEC = InputSpec(kind="text_classification", classes=("a", "b"), vocabulary_size=400, max_length=9, vector_size=6)
CONFIG = LSTMConfig(embedding_size=6, hidden_size=4, embedding_scale=0.4)


def begun(folder: Path, vectors: np.ndarray, config: LSTMConfig = CONFIG) -> tuple[nn.Module, torch.Tensor]:
    """Return a network that began with vectors, and the embedding that it was drawn with."""
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    torch.manual_seed(0)
    network = build_network(config, SPEC)
    drawn = network.get_parameter("embedding.weight").detach().clone()
    take_vectors(network, folder / "vectors.npy", config)
    return network, drawn


@pytest.fixture
def vectors() -> np.ndarray:
    """Vectors of all words but the two special ones and the last hundred."""
    found = 7 + 3 * np.random.default_rng(0).normal(size=(400, 6))
    found[:2] = found[300:] = 0
    return found


def test_words_begin_with_their_vectors_about_zero_and_as_large_as_asked(tmp_path: Path, vectors: np.ndarray) -> None:
    network, drawn = begun(tmp_path, vectors)
    weight = network.get_parameter("embedding.weight").detach()
    of_vectors = weight[2:300].double()
    assert of_vectors.mean(0).abs().max() < 1e-6
    assert float(of_vectors.std(correction=0)) == pytest.approx(0.4, rel=1e-5)
    # As they stand to each other in the file.
    for first, second in ((2, 3), (10, 200)):
        apart = torch.from_numpy(vectors[first] - vectors[second])
        assert torch.nn.functional.cosine_similarity(weight[first].double() - weight[second], apart, dim=0) > 0.9999
    assert torch.equal(weight[300:], drawn[300:]) and torch.equal(weight[:2], drawn[:2])


def test_a_single_vector_does_not_divide_by_zero(tmp_path: Path) -> None:
    vectors = np.zeros((400, 6))
    vectors[5] = 1
    network, _ = begun(tmp_path, vectors)
    assert network.get_parameter("embedding.weight").isfinite().all()


def test_many_vectors_are_taken_in_less_memory_than_they_have_themselves(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).normal(1, 2, (60_000, 16)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", drawn)
    config = replace(CONFIG, embedding_size=16)
    network = build_network(config, replace(SPEC, vocabulary_size=len(drawn), vector_size=16))
    tracemalloc.start()
    take_vectors(network, tmp_path / "vectors.npy", config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    given = drawn.astype(np.float64) - drawn.mean(axis=0, dtype=np.float64)
    weight = network.get_parameter("embedding.weight").detach().numpy()
    assert np.abs(weight - given * (0.4 / given.std())).max() < 1e-6
    assert peak < drawn.nbytes


def test_vectors_of_nothing_but_zeros_leave_words_as_they_were_drawn(tmp_path: Path) -> None:
    network, drawn = begun(tmp_path, np.zeros((400, 6)))
    assert torch.equal(network.get_parameter("embedding.weight"), drawn)


@pytest.mark.parametrize("freeze", [False, True])
def test_words_are_trained_unless_they_are_frozen(tmp_path: Path, vectors: np.ndarray, freeze: bool) -> None:
    network, _ = begun(tmp_path, vectors, replace(CONFIG, freeze_embedding=freeze))
    assert [name for name, parameter in network.named_parameters() if not parameter.requires_grad] == (
        ["embedding.weight"] if freeze else []
    )


def test_an_embedding_of_another_size_than_the_vectors_is_refused() -> None:
    with pytest.raises(InputError, match=r"embedding_size: 8, those of data\.vectors have 6 numbers; use embedding_size: 6"):
        check_input(replace(CONFIG, embedding_size=8), SPEC)
    check_input(replace(CONFIG, embedding_size=8), replace(SPEC, vector_size=0))


def test_random_numbers_are_not_frozen() -> None:
    with pytest.raises(InputError, match="freeze_embedding: true would leave the random numbers"):
        check_input(replace(CONFIG, freeze_embedding=True), replace(SPEC, vector_size=0))


def test_more_words_than_an_onnx_file_holds_are_refused_before_they_are_trained() -> None:
    with pytest.raises(
        InputError, match=r"2,000,000 words with 300 numbers each take 2\.4 GB.*a smaller data\.vocabulary_size"
    ):
        check_input(replace(CONFIG, embedding_size=300), replace(SPEC, vocabulary_size=2_000_000, vector_size=300))
    check_input(replace(CONFIG, embedding_size=300), replace(SPEC, vocabulary_size=1_500_000, vector_size=300))
