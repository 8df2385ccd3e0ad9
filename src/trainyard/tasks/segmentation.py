"""Segmentation: which class does each pixel belong to."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from trainyard.tasks.task import Task


class Segmentation(Task):
    """Cross-entropy and Dice, mean IoU, Dice and pixel accuracy around a network that gives logits (N, K, H, W)."""

    def __init__(self, num_classes: int, **common: Any) -> None:
        super().__init__(**common)
        self.val_confusion = MulticlassConfusionMatrix(num_classes)

    def score(self, outputs: Tensor, targets: Tensor) -> None:
        self.val_confusion.update(outputs.argmax(dim=1), targets)

    def log_scores(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in scores(self.val_confusion.compute()).items()})
        self.val_confusion.reset()


def scores(confusion: Tensor) -> dict[str, Tensor]:
    """Return mean IoU, mean Dice and pixel accuracy of a confusion matrix (K, K), truth in rows.

    Means go over the classes that occur in truth or prediction.
    """
    counts = confusion.double()
    overlap, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    occurs = (truth + predicted) > 0
    iou = overlap[occurs] / (truth + predicted - overlap)[occurs]
    dice = 2 * overlap[occurs] / (truth + predicted)[occurs]
    accuracy = overlap.sum() / counts.sum()
    return {"mean_iou": iou.mean().float(), "dice": dice.mean().float(), "pixel_accuracy": accuracy.float()}
