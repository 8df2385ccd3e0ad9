"""A moving average of the weights: what it is made of, that it is what is kept, and that training does not see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tests.training.gang import Gang, differences, final_state
from torch import Tensor

from trainyard.data.batches import eval_batches
from trainyard.data.packed import open_split, read_card
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.params import ParamsError
from trainyard.recipe import read_recipe
from trainyard.tasks.losses import sample_losses
from trainyard.tasks.train_config import EmaConfig
from trainyard.training.averaging import decay_at
from trainyard.training.checkpoint import kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

Build = Callable[..., FitJob]
AVERAGED = EmaConfig(decay=0.9)


class Weights(pl.Callback):
    """Notes the network's state after each optimizer step."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step and trainer.global_step not in self.after:
            # The pieces of the next step change running statistics before it is done.
            self.after[trainer.global_step] = {name: value.clone() for name, value in pl_module.network.state_dict().items()}


def by_hand(states: dict[int, dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = {name: value.clone() for name, value in states[1].items()}
    for step in range(2, max(states) + 1):
        for name, value in states[step].items():
            if value.is_floating_point():
                average[name] = average[name].lerp(value, 1 - decay_at(step, decay))
            else:
                average[name] = value
    return average


def test_the_average_forgets_its_beginning_and_reaches_its_decay() -> None:
    assert decay_at(1, 0.999) == 0
    decays = [decay_at(step, 0.999) for step in range(1, 20_000)]
    assert decays == sorted(decays) and decays[-1] == 0.999
    # After 200 steps, the first half of them has a thousandth of the average, though 0.999 remembers a thousand steps.
    share = 1.0
    for step in range(101, 201):
        share *= decay_at(step, 0.999)
    assert share < 2e-3
    assert decay_at(20, 0.5) == 0.5


@pytest.mark.parametrize("pieces", [None, 50])
def test_what_is_kept_is_the_average_of_the_weights_after_each_step(build: Build, pieces: int | None) -> None:
    job = build("cnn", "averaged", ema=AVERAGED, micro_batch_size=pieces, keep="last")
    weights = Weights()
    result = fit(job, callbacks=[weights])
    assert sorted(weights.after) == list(range(1, int(result.history[-1]["step"]) + 1))
    kept = kept_weights(job.checkpoints, job.fingerprint, "last")[0]
    assert differences(kept, by_hand(weights.after, 0.9)) == []
    # Running statistics of batch normalisation, too.
    assert any("running_var" in name for name in kept)
    assert differences(kept, weights.after[max(weights.after)]) != []


def test_training_is_the_same_in_every_bit_with_an_average_beside_it(build: Build) -> None:
    states = []
    for name, ema in (("plain", None), ("averaged", AVERAGED)):
        job = build("cnn", name, ema=ema)
        fit(job)
        states.append(final_state(job))
    plain, averaged = states
    assert {name.partition(".")[0] for name in averaged["state_dict"]} == {"network", "averaged"} | {
        name.partition(".")[0] for name in plain["state_dict"]
    }
    trained = {name: value for name, value in averaged["state_dict"].items() if not name.startswith("averaged.")}
    assert differences(plain["state_dict"], trained) == []
    assert differences(plain["optimizer_states"], averaged["optimizer_states"]) == []
    losses = [[row["train/loss"] for row in state["history"]] for state in states]
    assert losses[0] == losses[1]


def test_validation_scores_the_average_and_the_best_epoch_is_its_own(build: Build) -> None:
    job = build("cnn", "averaged", ema=AVERAGED, precision="fp32")
    history = fit(job).history
    weights, facts = kept_weights(job.checkpoints, job.fingerprint)
    scores = [row["val/accuracy"] for row in history]
    assert facts.epoch == scores.index(max(scores))
    card = read_card(job.data_dir)
    network = build_network(job.recipe.model, InputSpec.from_card(card)).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        batches = list(eval_batches(open_split(job.data_dir, "val", card), 512))
        losses = [sample_losses(network(*batch.inputs), batch.targets, job.recipe.train, None) for batch in batches]
    assert history[facts.epoch]["val/loss"] == pytest.approx(float(torch.cat(losses).double().mean()), rel=1e-5)


@pytest.mark.faults
def test_two_workers_have_the_average_of_one(build: Build) -> None:
    kept = []
    for workers in (1, 2):
        job = build("cnn", f"workers-{workers}", ema=AVERAGED, precision="fp32", epochs=1, batch_statistics="global")
        end = Gang(job, workers).attempt()
        assert end.finished, end.said
        kept.append(kept_weights(job.checkpoints, job.fingerprint)[0])
    for name, value in kept[0].items():
        torch.testing.assert_close(kept[1][name], value, rtol=1e-4, atol=1e-5)


RECIPE = """recipes:
  digits:
    family: cnn
    data: {source: digits, path: requirements.lock}
    model: {widths: [8]}
    train:
      epochs: 1
      batch_size: 8
      optimizer: adamw
      learning_rate: 1e-3
      ema: EMA
    evaluate: {}
    export: {}
"""


@pytest.mark.parametrize(
    ("ema", "said"),
    [
        ("{decay: 1.0}", "line 11: recipes.digits.train.ema.decay: found 1.0; expected less than 1"),
        ("{decay: 0}", "recipes.digits.train.ema.decay: found 0; expected greater than 0"),
        ("{decy: 0.9}", "did you mean 'decay'?"),
        ("0.9", "line 11: recipes.digits.train.ema: found 0.9"),
    ],
)
def test_a_decay_that_averages_nothing_or_never_forgets_is_refused(tmp_path: Path, ema: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(RECIPE.replace("EMA", "{}"))
    assert read_recipe(path, "digits").train.ema == EmaConfig()
    path.write_text(RECIPE.replace("EMA", ema))
    with pytest.raises(ParamsError) as refused:
        read_recipe(path, "digits")
    assert said in str(refused.value)


def test_a_recipe_without_an_average_keeps_none(build: Build) -> None:
    job = build("cnn", "plain", epochs=1)
    assert dataclasses.asdict(job.recipe.train)["ema"] is None
    fit(job)
    assert not any(name.startswith("averaged.") for name in final_state(job)["state_dict"])
