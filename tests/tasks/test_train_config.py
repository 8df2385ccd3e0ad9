from __future__ import annotations

from typing import Any

import pytest

from trainyard.tasks.train_config import TrainConfig

PLAIN: dict[str, Any] = {"epochs": 3, "batch_size": 8, "optimizer": "adamw", "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "last", "early_stopping_patience": 2}, r"early_stopping_patience: 2 .* keep: last"),
        ({"nesterov": True}, r"nesterov: true goes with optimizer: sgd .* found optimizer: adamw"),
        ({"momentum": 0.9}, r"momentum: 0.9 goes with optimizer: sgd, found adamw"),
        ({"schedule": "constant", "warmup_fraction": 0.1}, r"warmup_fraction: 0.1 has no meaning with schedule: constant"),
        ({"loss": "mse", "label_smoothing": 0.1}, r"label_smoothing: 0.1 goes with loss: cross_entropy, found mse"),
    ],
)
def test_options_of_training_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    TrainConfig(**{**PLAIN, "schedule": "cosine"})
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**PLAIN, **options})
