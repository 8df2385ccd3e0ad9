"""The steps of a training compute what Lightning's own would, and cost less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tests.training.gang import differences, final_state

from trainyard.errors import InputError
from trainyard.recipe import Recipe
from trainyard.training.checkpoint import scan
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.spool import Reader
from trainyard.training.steps import listening

Build = Callable[..., FitJob]
MakeRecipe = Callable[..., Recipe]


def trained(job: FitJob) -> dict[str, Any]:
    fit(job)
    return final_state(job)


def whole_state(job: FitJob) -> dict[str, Any]:
    """Return all of the newest checkpoint that the training goes on from: loops, optimizer, schedule, weights."""
    state = torch.load(scan(job.checkpoints, job.fingerprint)[0][-1].state, weights_only=True)
    return {name: state[name] for name in ("loops", "optimizer_states", "lr_schedulers", "state_dict", "global_step")}


@pytest.mark.parametrize(("family", "train"), [("cnn", {}), ("cnn", {"gradient_clip": 0.1}), ("lstm", {}), ("unet", {})])
def test_steps_are_lightnings_own_in_every_bit(
    build: Build, monkeypatch: pytest.MonkeyPatch, family: str, train: dict[str, Any]
) -> None:
    ours = build(family, "ours", **train)
    ours_end = trained(ours)
    monkeypatch.setattr("trainyard.training.fit.take_steps", lambda trainer: None)
    theirs = build(family, "theirs", **train)
    assert differences(ours_end, trained(theirs)) == []
    assert differences(whole_state(ours), whole_state(theirs)) == []


def test_a_checkpoint_of_lightnings_own_steps_goes_on_with_ours(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(build("cnn", "whole"))
    job = build("cnn", "cut")
    with monkeypatch.context() as patch:
        patch.setattr("trainyard.training.fit.take_steps", lambda trainer: None)
        patch.setenv("TRAINYARD_FAULT", "raise:step8:phase=forward:settled")
        with pytest.raises(RuntimeError, match="a fault on demand"):
            fit(job)
    assert scan(job.checkpoints, job.fingerprint)[0][-1].facts.step == 6
    assert differences(whole, trained(job)) == []


def test_callbacks_that_do_nothing_in_a_hook_are_not_called() -> None:
    class Listener(pl.Callback):
        def on_train_batch_end(self, *_: Any, **__: Any) -> None: ...

    class Deaf(pl.Callback): ...

    listener = Listener()
    trainer: Any = SimpleNamespace(callbacks=[Deaf(), listener])
    assert listening(trainer, "on_train_batch_end") == [listener.on_train_batch_end]
    assert listening(trainer, "on_before_backward") == []


def test_a_device_that_answers_late_trains_the_same(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = trained(build("cnn", "at-once"))
    monkeypatch.setattr("trainyard.training.keeper.answers_late", lambda device: True)
    assert differences(at_once, trained(build("cnn", "late"))) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_device_that_answers_late_keeps_its_weights_from_the_step_that_is_no_number_on(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    recipe = make_recipe(optimizer=optimizer, learning_rate=1e20, schedule="constant", warmup_fraction=0.0)
    said = []
    kept: list[dict[str, torch.Tensor]] = []
    for late in (False, True):
        monkeypatch.setattr("trainyard.training.keeper.answers_late", lambda device, late=late: late)
        scratch = tmp_path / f"late-{late}"
        job = FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=scratch, fingerprint="f")
        scratch.mkdir()
        watch = Weights()
        with pytest.raises(InputError) as refused:
            fit(job, callbacks=[watch])
        kept.append(watch.last)
        said.append(str(refused.value).partition("gradient norm")[2])
        assert scan(job.checkpoints, "f") == ([], [])
    assert said[0] == said[1]
    assert differences(kept[0], kept[1]) == []


class Weights(pl.Callback):
    """Notes the weights when a training ends with an error."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.last = {name: tensor.detach().clone() for name, tensor in pl_module.network.named_parameters()}


def test_what_a_training_computes_in_is_said_once(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    job = FitJob(recipe=make_recipe(epochs=1), data_dir=packed_digits, scratch_dir=tmp_path / "s", fingerprint="f")
    result = fit(job)
    notes = [record.note for record in Reader(job.spool).read() if record.note]
    assert notes == [f"computes in {result.precision}"]
