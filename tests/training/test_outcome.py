from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from trainyard.recipe import Recipe
from trainyard.training.job import FitJob
from trainyard.training.outcome import (
    DONE,
    KEPT_SECONDS,
    bring_identity,
    close_scratch,
    free_scratch,
    open_scratch,
    share_identity,
)
from trainyard.training.outcome import RUN as RUN_FILE

RUN = b'{"run_id": "0123", "fingerprint": "cnn-1"}\n'


def finished(root: Path) -> Path:
    folder = open_scratch(root, "cnn-1", root / "dvc.lock")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state").write_text("weights")
    close_scratch(folder, RUN)
    return folder


def record(root: Path) -> None:
    md5 = hashlib.md5(RUN, usedforsecurity=False).hexdigest()
    (root / "dvc.lock").write_text(f"    - path: models/cnn/run.json\n      md5: {md5}\n")


def test_a_finished_training_that_dvc_did_not_record_is_continued_with(tmp_path: Path) -> None:
    finished(tmp_path)
    folder = open_scratch(tmp_path, "cnn-1", tmp_path / "dvc.lock")
    assert (folder / "checkpoints" / "state").read_text() == "weights"


def test_a_forced_run_of_a_recorded_training_begins_anew(tmp_path: Path) -> None:
    finished(tmp_path)
    record(tmp_path)
    assert list(open_scratch(tmp_path, "cnn-1", tmp_path / "dvc.lock").iterdir()) == []


def test_disk_space_comes_back_once_dvc_has_recorded_a_training(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    free_scratch(tmp_path, tmp_path / "dvc.lock")
    assert (folder / "checkpoints").is_dir()
    record(tmp_path)
    free_scratch(tmp_path, tmp_path / "dvc.lock")
    assert not (folder / "checkpoints").exists()
    assert list(open_scratch(tmp_path, "cnn-1", tmp_path / "nowhere").iterdir()) == []


def test_what_nobody_asked_for_in_a_week_is_given_back(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    long_ago = time.time() - KEPT_SECONDS - 60
    os.utime(folder / DONE, (long_ago, long_ago))
    free_scratch(tmp_path, tmp_path / "dvc.lock")
    assert not (folder / "checkpoints").exists()


def test_an_interrupted_training_keeps_all_of_its_folder(tmp_path: Path) -> None:
    folder = open_scratch(tmp_path, "cnn-1", tmp_path / "dvc.lock")
    (folder / "checkpoints").mkdir()
    free_scratch(tmp_path, tmp_path / "dvc.lock")
    assert (open_scratch(tmp_path, "cnn-1", tmp_path / "dvc.lock") / "checkpoints").is_dir()


def test_another_machine_continues_the_run_of_the_checkpoints_in_a_storage(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    one, other = (
        FitJob(
            recipe=make_recipe(),
            data_dir=tmp_path,
            scratch_dir=open_scratch(tmp_path / machine, "cnn-1", tmp_path / "dvc.lock"),
            fingerprint="cnn-1",
            storage=str(tmp_path / "storage"),
        )
        for machine in ("one", "other")
    )
    bring_identity(one)
    assert not (one.scratch_dir / RUN_FILE).exists()
    (one.scratch_dir / RUN_FILE).write_bytes(RUN)
    share_identity(one)
    bring_identity(other)
    assert (other.scratch_dir / RUN_FILE).read_bytes() == RUN
