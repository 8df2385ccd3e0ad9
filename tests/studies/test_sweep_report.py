from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.narrow import narrow
from trainyard.studies.sweep_report import render
from trainyard.studies.trials import Swept, Trial

VALUES: dict[str, Any] = {
    "cnn.train.learning_rate": 0.0123456,
    "cnn.train.weight_decay": 1e-5,
    "cnn.model.dropout": 0.25,
    "cnn.model.widths": [32, 64, 128],
    "cnn.train.batch_size": 128,
}


def swept(keys: int) -> Swept:
    values = dict(list(VALUES.items())[:keys])
    history = ({"step": 1.0, "val/accuracy": 0.9},)
    trials = (
        Trial(number=0, values=values, state="finished", history=history),
        Trial(number=1, values=values, state="stopped", history=history),
    )
    return Swept(
        recipe="cnn", metric="accuracy", trials=trials, best=0, scores={0: 0.9, 1: 0.5}, values=values, folder=Path("sweep")
    )


@pytest.mark.parametrize("keys", [2, 5])
def test_trials_of_many_keys_have_a_line_for_each_where_a_line_has_no_room_for_all(keys: int) -> None:
    lines = narrow(render(swept(keys)), "train.learning_rate", "train.weight_decay", "1 (stopped)", "0.01235", "1e-05")
    first = next(line.split() for line in lines if line.startswith("0 "))
    assert first == (["0", "0.9000", "1", "0.01235", "1e-05"] if keys == 2 else ["0", "0.9000", "1"])
    assert ("  model.widths         [32, 64, 128]" in lines) is (keys == 5)
