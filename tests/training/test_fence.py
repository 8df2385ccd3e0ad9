from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from trainyard.errors import Interrupted
from trainyard.recipe import Recipe
from trainyard.training import guard
from trainyard.training.checkpoint import scan
from trainyard.training.fence import ATTEMPT, FILE, Fence, attempt_of_this_process
from trainyard.training.fit import fit
from trainyard.training.guard import Guard
from trainyard.training.job import FitJob
from trainyard.training.store import FolderStore


def test_an_attempt_that_was_followed_by_another_stops(tmp_path: Path) -> None:
    earlier, later = Fence(FolderStore(tmp_path), 5), Fence(FolderStore(tmp_path), 6)
    earlier.claim()
    earlier.check()
    later.claim()
    later.check()
    with pytest.raises(Interrupted, match="attempt 5 was given up for lost, and attempt 6 has taken over"):
        earlier.check()


def test_an_earlier_attempt_that_starts_late_takes_nothing_back(tmp_path: Path) -> None:
    Fence(FolderStore(tmp_path), 6).claim()
    with pytest.raises(Interrupted):
        Fence(FolderStore(tmp_path), 5).claim()
    Fence(FolderStore(tmp_path), 6).check()


def test_a_torn_claim_holds_nobody_back(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"attem')
    Fence(FolderStore(tmp_path), 1).claim()
    Fence(FolderStore(tmp_path), 1).check()


def test_a_process_on_its_own_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ATTEMPT, raising=False)
    Fence(FolderStore(tmp_path), attempt_of_this_process()).claim()
    assert not (tmp_path / FILE).exists()
    monkeypatch.setenv(ATTEMPT, "7")
    Fence(FolderStore(tmp_path), attempt_of_this_process()).claim()
    assert (tmp_path / FILE).exists()


class TakeOver(pl.Callback):
    """Has another attempt claim the folder in the midst of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 3:
            Fence(FolderStore(self.folder), 6).claim()


def test_a_worker_that_was_given_up_writes_nothing_more(
    make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "FENCE_SECONDS", 0.0)
    job = FitJob(recipe=make_recipe(), data_dir=packed_digits, scratch_dir=tmp_path, fingerprint="f")
    with pytest.raises(Interrupted, match="attempt 6 has taken over"):
        fit(job, callbacks=[Guard(Fence(FolderStore(tmp_path), 5)), TakeOver(tmp_path)])
    valid, _ = scan(job.checkpoints, "f")
    assert [checkpoint.facts.epoch for checkpoint in valid if checkpoint.facts.ended] == [0]


class Far:
    """A store like those of objects, which lets whoever reads wait until the test lets go."""

    address = "far"

    def __init__(self, folder: Path) -> None:
        self.near = FolderStore(folder)
        self.answers = threading.Event()
        self.asked = threading.Event()

    def read(self, name: str) -> bytes:
        if threading.current_thread().name == "guard":
            self.asked.set()
            self.answers.wait(120)
        return self.near.read(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.near, name)


class AtStep(pl.Callback):
    """Has the store answer from a step on, and waits there until the answer has been heard."""

    def __init__(self, far: Far, fence_of_others: Fence, heard: Callable[[], object]) -> None:
        self.far, self.others, self.heard = far, fence_of_others, heard
        self.steps_before = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 0:
            assert self.far.asked.wait(120), "the store was never asked"
            self.steps_before += 1
        elif batch_idx == 0 and trainer.current_epoch == 1:
            self.others.claim()
            self.far.answers.set()
            deadline = time.monotonic() + 120
            while self.heard() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_a_store_that_does_not_answer_delays_no_step_and_is_believed_when_it_does(
    make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "FENCE_SECONDS", 0.0)
    monkeypatch.setattr(guard, "FENCE_REMOTE_SECONDS", 0.01)
    far = Far(tmp_path)
    watchman = Guard(Fence(far, 5))
    at = AtStep(far, Fence(FolderStore(tmp_path), 6), lambda: watchman.later)
    job = FitJob(recipe=make_recipe(), data_dir=packed_digits, scratch_dir=tmp_path, fingerprint="f")
    with pytest.raises(Interrupted, match="far: attempt 5 was given up for lost, and attempt 6 has taken over"):
        fit(job, callbacks=[watchman, at])
    assert at.steps_before > 1, "a step waited for the store"
