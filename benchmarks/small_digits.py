"""The digits, and the small recipe for them that benchmarks train."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainyard.data.digits import DigitsConfig
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig

DATA = DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2)
MODEL = CNNConfig(widths=(8, 16), convolutions=1, normalisation="group", dropout=0.2)
TRAIN = TrainConfig(epochs=2, batch_size=128, optimizer="adamw", learning_rate=3e-3, schedule="one_cycle", warmup_fraction=0.25)


def recipe(model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """Return the recipe with changes to its `model` and `train` blocks."""
    return Recipe(
        name="digits",
        family="cnn",
        data=DATA,
        model=replace(MODEL, **(model or {})),
        train=replace(TRAIN, **train),
        evaluate=EvaluateConfig(),
        export=ExportConfig(),
    )
