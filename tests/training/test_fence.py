from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from trainyard.errors import Interrupted
from trainyard.recipe import Recipe
from trainyard.training import guard
from trainyard.training.checkpoint import scan
from trainyard.training.fence import ATTEMPT, FILE, Fence
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
    Fence.of_this_process(FolderStore(tmp_path)).claim()
    assert not (tmp_path / FILE).exists()
    monkeypatch.setenv(ATTEMPT, "7")
    Fence.of_this_process(FolderStore(tmp_path)).claim()
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
