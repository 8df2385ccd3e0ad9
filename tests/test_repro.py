from __future__ import annotations

import logging
from pathlib import Path

import pytest

from trainyard.params import ParamsError
from trainyard.repro import room_for, would_train
from trainyard.training.cluster_config import ClusterConfig


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight processors and no GPU."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("trainyard.training.hardware.processors", lambda: 8)
    monkeypatch.setattr("trainyard.training.room.processors", lambda: 8)
    monkeypatch.setattr("trainyard.training.hardware.gpus", lambda: 0)
    monkeypatch.setattr("trainyard.training.room.gpus", lambda: 0)


@pytest.mark.parametrize(
    ("settings", "together", "workers"),
    [
        ({"workers": 1, "cpus_per_worker": 1}, 3, 1),
        ({"workers": 4, "cpus_per_worker": 1}, 2, 4),
        # Left out, a worker has all processors, and its sums their order.
        ({"workers": 1}, 1, 1),
        ({"workers": 3, "cpus_per_worker": 2}, 1, 3),
        ({"workers": "auto"}, 1, 2),
        ({"workers": 0}, 1, 0),
        ({"workers": 8}, 1, 8),
        # Those of a cluster take all that there is.
        ({"workers": "auto", "address": "10.0.0.10:6379"}, 1, 0),
    ],
)
def test_trainings_share_what_there_is_and_each_has_what_it_would_have_alone(
    machine: None, settings: dict[str, object], together: int, workers: int
) -> None:
    room = room_for(ClusterConfig(**settings), 3, None)  # type: ignore[arg-type]
    assert (room.together, room.workers) == (together, workers)


def test_more_trainings_at_a_time_are_run_where_that_is_asked_for(machine: None) -> None:
    assert room_for(ClusterConfig(workers=8), 3, 2).together == 2
    with pytest.raises(ParamsError, match="use at most 8 workers"):
        room_for(ClusterConfig(workers=9), 3, 2)


PIPELINE = """\
stages:
  train:
    foreach: [cnn]
    do:
      cmd: cp data weights
      params: [epochs]
      deps: [data]
      outs: [weights]
"""


def test_a_training_of_changed_inputs_runs_ahead_and_one_that_dvc_has_seen_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from dvc.repo import Repo

    for name, text in (("dvc.yaml", PIPELINE), ("params.yaml", "epochs: 1\n"), ("data", "one")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    # Where another test has called dvc's own command, its handlers write to what that test had for a terminal.
    monkeypatch.setattr(logging.getLogger("dvc"), "handlers", [])
    Repo.init(no_scm=True).reproduce()
    capfd.readouterr()
    assert not would_train(tmp_path, "cnn"), "nothing has changed"
    (tmp_path / "params.yaml").write_text("epochs: 2\n")
    assert would_train(tmp_path, "cnn")
    (tmp_path / "data").write_text("two")
    Repo().reproduce()
    (tmp_path / "params.yaml").write_text("epochs: 1\n")
    assert would_train(tmp_path, "cnn"), "these data with this parameter were never trained on"
    capfd.readouterr()
    (tmp_path / "data").write_text("one")
    assert not would_train(tmp_path, "cnn"), "DVC's cache has the result"
    (tmp_path / "weights").unlink()
    assert not would_train(tmp_path, "cnn")
    assert capfd.readouterr().out == "", "it was only asked"
