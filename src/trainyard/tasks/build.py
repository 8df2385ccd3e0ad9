"""The task that fits a kind of data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainyard.data.packed import Card
from trainyard.models.spec import InputSpec
from trainyard.tasks.augmentation import Guarded, build_augmentation
from trainyard.tasks.task import Task
from trainyard.tasks.train_config import TrainConfig, check_train


def build_task(
    network: nn.Module, card: Card, config: TrainConfig, total_steps: int, averaged: nn.Module | None = None
) -> Task:
    """Return the Lightning module that trains `network` on the data of `card` in `total_steps` optimizer steps.

    Args:
        network: what is trained.
        card: of the data.
        config: how.
        total_steps: of the whole training.
        averaged: the network with averaged weights, which is scored in its place.

    Raises:
        InputError: the config asks for what these data have not.
    """
    check_train(config, InputSpec.from_card(card))
    common: dict[str, Any] = {
        "network": network,
        "config": config,
        "total_steps": total_steps,
        "augment": Guarded(build_augmentation(config.augment, card.kind, config.seed, card.normalisation.get("mean", ()))),
        "class_weights": class_weights(card) if config.class_weights == "balanced" else None,
        "averaged": averaged,
    }
    match card.kind:
        case "forecasting":
            from trainyard.tasks.forecasting import Forecasting

            return Forecasting(**common)
        case "segmentation":
            from trainyard.tasks.segmentation import Segmentation

            return Segmentation(len(card.classes), **common)
        case "image_classification" | "text_classification":
            from trainyard.tasks.classification import Classification

            return Classification(len(card.classes), **common)


def class_weights(card: Card) -> Tensor:
    """Return weights (K,) inverse to the classes' shares of the training split, of mean 1 over its samples (or pixels).

    A class that does not occur there has weight 0.
    """
    counts = torch.tensor([card.counts["train"][name] for name in card.classes], dtype=torch.float64)
    shown = counts > 0
    weights = torch.where(shown, counts.sum() / (shown.sum() * counts.clamp_min(1)), 0.0)
    return weights.float()
