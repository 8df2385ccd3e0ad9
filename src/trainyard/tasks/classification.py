"""Classification: which class does an image or a text belong to."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainyard.tasks.task import Task


class Classification(Task):
    """Cross-entropy (or squared error), accuracy and macro F1 around a network that gives logits (N, num_classes)."""

    def __init__(self, num_classes: int, **common: Any) -> None:
        super().__init__(**common)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_macro_f1 = MulticlassF1Score(num_classes, average="macro")

    def score(self, outputs: Tensor, targets: Tensor) -> None:
        self.val_accuracy.update(outputs, targets)
        self.val_macro_f1.update(outputs, targets)

    def log_scores(self) -> None:
        self.log("val/accuracy", self.val_accuracy)
        self.log("val/macro_f1", self.val_macro_f1)
