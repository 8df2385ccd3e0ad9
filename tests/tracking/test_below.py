from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from trainyard.data.packed import read_card
from trainyard.recipe import Recipe
from trainyard.tracking.below import TrackingBelow
from trainyard.tracking.sync import sync
from trainyard.training.cluster_config import TrackingConfig

EPOCHS = [{"val/accuracy": value, "step": step} for step, value in ((19.0, 0.5), (38.0, 0.6), (57.0, 0.7))]


def test_epochs_that_two_attempts_tell_of_are_stored_once(
    tmp_path: Path, packed_digits: Path, make_recipe: Callable[..., Recipe]
) -> None:
    config, card = TrackingConfig(system_metrics=False), read_card(packed_digits)
    above = SimpleNamespace(experiment="digits", key="nobody")

    def begin() -> TrackingBelow:
        run = TrackingBelow(tmp_path, config, make_recipe(), "trial", above)  # type: ignore[arg-type]
        run.begin(tmp_path / "run.json", "digits-sweep-0000", card, {})
        return run

    killed = begin()
    killed.epochs(0, EPOCHS[:2])
    assert killed.journal is not None
    # As the kernel does for a process that was killed.
    killed.journal.release()
    again = begin()
    again.epochs(0, EPOCHS[:1])
    again.epochs(1, EPOCHS[1:])
    again.end("FINISHED")
    assert list(sync(tmp_path, config))
    assert again.is_sent()
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        found = list(connection.execute("select step, value from metrics where key = 'val/accuracy' order by step"))
        assert list(connection.execute("select status from runs")) == [("FINISHED",)]
    assert found == [(0, 0.5), (1, 0.6), (2, 0.7)]
