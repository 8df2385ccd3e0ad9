from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.training import recorder
from trainyard.training.recorder import Recorder
from trainyard.training.spool import FileSpool, Reader


def history(epochs: int) -> list[dict[str, float]]:
    return [{"val/loss": 1 / (epoch + 1), "seconds": 2.0 * (epoch + 1), "step": 10.0 * (epoch + 1)} for epoch in range(epochs)]


def recorded(path: Path) -> list[tuple[str, int, int, bool]]:
    return [(record.kind, record.epoch, record.step, record.resumed) for record in Reader(path).read()]


def begun(path: Path, step: int, epochs: int, resumed: bool = False) -> Recorder:
    found = Recorder(FileSpool(path), 100)
    found.resumed = resumed
    found.recall()
    found.begin(step, history(epochs))
    return found


def test_steps_that_are_done_again_are_not_recorded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RECORD_SECONDS", 0.0)
    path = tmp_path / "spool.jsonl"
    first = begun(path, 0, 0)
    for step in (1, 2, 3):
        first.progress(0, step, lambda: {"train/step_loss": 0.5})
    again = begun(path, 1, 0, resumed=True)
    for step in (2, 3, 4):
        again.progress(0, step, lambda: {"train/step_loss": 0.5})
    assert recorded(path) == [
        ("progress", 0, 1, False),
        ("progress", 0, 2, False),
        ("progress", 0, 3, False),
        ("progress", 0, 4, True),
    ]


def test_an_epoch_that_was_saved_but_not_recorded_is_recorded_by_the_next_attempt(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    begun(path, 0, 0).append("epoch", 0, 10, history(1)[0])
    begun(path, 20, 2, resumed=True)
    assert recorded(path) == [("epoch", 0, 10, False), ("epoch", 1, 20, True)]
    assert [record.seconds for record in Reader(path).read()] == [2.0, 4.0]


def test_within_a_second_one_record_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    found = begun(path, 0, 0)
    found.recorded -= 2 * recorder.RECORD_SECONDS
    for step in (1, 2, 3):
        found.progress(0, step, lambda: {"train/step_loss": 0.5})
    # A machine that stands still for a second may bring the next one.
    assert recorded(path)[0] == ("progress", 0, 1, False)
    found.recorded += 3600
    count = len(recorded(path))
    found.progress(0, 4, lambda: {"train/step_loss": 0.5})
    assert len(recorded(path)) == count
