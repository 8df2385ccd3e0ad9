from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainyard.errors import InputError, IntegrityError
from trainyard.models.cnn_config import CNNConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import StartConfig
from trainyard.training import checkpoint
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.spool import Reader

MakeRecipe = Callable[..., Recipe]


def make_job(recipe: Recipe, data_dir: Path, scratch: Path) -> FitJob:
    scratch.mkdir(exist_ok=True)
    return FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint="f")


def test_a_fit_learns_digits_and_records_each_epoch(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    job = make_job(make_recipe(epochs=6, learning_rate=1e-2), packed_digits, tmp_path / "s")
    result = fit(job)
    assert len(result.history) == 6
    assert result.history[-1]["val/accuracy"] > 0.8
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]
    epochs = [record for record in Reader(job.spool).read() if record.kind == "epoch"]
    assert [record.epoch for record in epochs] == list(range(6))
    assert [record.values["val/accuracy"] for record in epochs] == [row["val/accuracy"] for row in result.history]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    losses = [
        fit(make_job(make_recipe(epochs=1, seed=seed), packed_digits, tmp_path / f"s{position}")).history[0]["val/loss"]
        for position, seed in enumerate([0, 0, 1])
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_whitened_network_keeps_its_first_layer_through_training(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    layers = []
    for seed in (0, 1):
        recipe = make_recipe(epochs=2, seed=seed)
        recipe = dataclasses.replace(recipe, model=CNNConfig(widths=(4, 8), whitening=2))
        job = make_job(recipe, packed_digits, tmp_path / str(seed))
        fit(job)
        layers.append(kept_weights(job.checkpoints, job.fingerprint)[0])
    # It comes from the data, and neither from the seed nor from training.
    assert torch.equal(layers[0]["network.stem.0.weight"], layers[1]["network.stem.0.weight"])
    assert not torch.equal(layers[0]["network.stem.0.bias"], layers[1]["network.stem.0.bias"])


def test_a_fit_that_continues_ends_as_one_that_was_never_interrupted(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    whole = make_job(make_recipe(epochs=4), packed_digits, tmp_path / "whole")
    expected = fit(whole)

    cut = make_job(make_recipe(epochs=4), packed_digits, tmp_path / "cut")
    shutil.copytree(whole.checkpoints, cut.checkpoints)
    for path in sorted(cut.checkpoints.iterdir())[-1:]:
        shutil.rmtree(path)
    resume = checkpoint.scan(cut.checkpoints, cut.fingerprint)[0][-1]
    assert 0 < resume.facts.epoch < 3
    result = fit(cut)

    assert result.resumed_epoch == resume.facts.epoch + 1
    assert [row["val/loss"] for row in result.history] == [row["val/loss"] for row in expected.history]
    assert [row["train/loss"] for row in result.history] == [row["train/loss"] for row in expected.history]
    for name, weights in kept_weights(whole.checkpoints, whole.fingerprint)[0].items():
        assert torch.equal(weights, kept_weights(cut.checkpoints, cut.fingerprint)[0][name]), name


def test_a_finished_fit_is_not_trained_again(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    job = make_job(make_recipe(epochs=2), packed_digits, tmp_path / "s")
    first = fit(job)
    lines = job.spool.read_text()
    assert fit(job).history == first.history
    assert job.spool.read_text() == lines


def test_early_stopping_ends_after_its_patience(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=40, learning_rate=1e-12, schedule="constant", warmup_fraction=0.0, early_stopping_patience=2)
    result = fit(make_job(recipe, packed_digits, tmp_path / "s"))
    assert len(result.history) == 3
    assert checkpoint.scan(tmp_path / "s" / "checkpoints", "f")[0][-1].facts.finished


def test_a_loss_that_is_no_number_stops_at_once_and_says_where(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(optimizer="sgd", learning_rate=1e20, schedule="constant", warmup_fraction=0.0)
    job = make_job(recipe, packed_digits, tmp_path / "s")
    with pytest.raises(InputError, match=r"at epoch 1, step \d+, training samples \d+.*lower train.learning_rate \(1e\+20\)"):
        fit(job)
    assert checkpoint.scan(job.checkpoints, "f") == ([], [])


@pytest.mark.parametrize("batch_size", [1, 7, "full"])
def test_every_variant_of_gradient_descent_trains(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, batch_size: int | str
) -> None:
    recipe = make_recipe(model={"widths": (4,)}, epochs=1, batch_size=batch_size)
    samples = 1168 if batch_size == "full" else 0
    result = fit(make_job(recipe, packed_digits, tmp_path / "s"))
    assert result.history[0]["step"] == (1 if samples else -(-1168 // int(batch_size)))


def test_accumulated_pieces_give_the_gradient_of_the_whole_batch(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    weights = []
    for piece in (None, 100):
        recipe = make_recipe(
            model={"dropout": 0.0},
            epochs=1,
            batch_size="full",
            micro_batch_size=piece,
            precision="fp32",
            optimizer="sgd",
            learning_rate=1.0,
            schedule="constant",
            warmup_fraction=0.0,
        )
        job = make_job(recipe, packed_digits, tmp_path / f"s{piece}")
        fit(job)
        weights.append(kept_weights(job.checkpoints, job.fingerprint)[0])
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) <= 1e-6


def test_checkpoints_that_are_all_damaged_do_not_silently_start_over(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    job = make_job(make_recipe(epochs=2), packed_digits, tmp_path / "s")
    fit(job)
    for state in job.checkpoints.glob("*/state-*.ckpt"):
        state.write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"none of \d checkpoints is valid.*delete"):
        fit(job)


def test_a_fit_begins_with_given_weights(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    first = make_job(make_recipe(epochs=4, learning_rate=1e-2), packed_digits, tmp_path / "first")
    fit(first)
    path = tmp_path / "weights.safetensors"
    save_file(_contiguous(kept_weights(first.checkpoints, first.fingerprint)[0]), path)
    recipe = make_recipe(epochs=1, learning_rate=1e-9, start_from=StartConfig(weights=str(path)))
    job = dataclasses.replace(make_job(recipe, packed_digits, tmp_path / "second"), weights=path)
    assert fit(job).history[0]["val/accuracy"] > 0.7


def test_frozen_weights_are_the_same_after_a_fit(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    model = {"normalisation": "batch"}
    first = make_job(make_recipe(model, epochs=1), packed_digits, tmp_path / "first")
    fit(first)
    given = kept_weights(first.checkpoints, first.fingerprint)[0]
    path = tmp_path / "weights.safetensors"
    save_file(_contiguous({name: tensor for name, tensor in given.items() if "head" not in name}), path)
    recipe = make_recipe(model, epochs=2, start_from=StartConfig(weights=str(path), freeze=True))
    job = dataclasses.replace(make_job(recipe, packed_digits, tmp_path / "second"), weights=path)
    assert fit(job).parameters == 16 * 10 + 10
    after = kept_weights(job.checkpoints, job.fingerprint)[0]
    assert {name for name in after if not torch.equal(after[name], given[name])} == {
        "network.head.weight",
        "network.head.bias",
    }


def _contiguous(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in weights.items()}
