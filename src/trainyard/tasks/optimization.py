"""Optimizers, and learning rate schedules as functions of the step."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainyard.tasks.train_config import TrainConfig


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """Return the optimizer. Weights decay; biases and normalisation, which have one dimension, do not."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match config.optimizer:
        case "sgd":
            return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=True)
        case "adam":
            return Adam(groups, lr=config.learning_rate, fused=True)
        case "adamw":
            return AdamW(groups, lr=config.learning_rate, fused=True)


def build_schedule(optimizer: Optimizer, config: TrainConfig, steps: int) -> LambdaLR:
    """Return the schedule of a whole training of `steps` optimizer steps."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(config, step, steps))


def learning_rate_factor(config: TrainConfig, step: int, steps: int) -> float:
    """Return the share of `learning_rate` that step `step` of `steps` uses.

    constant: 1. cosine: a linear rise from 0, then half a cosine to 0 (Loshchilov 2016, arXiv:1608.03983).
    one_cycle: a linear rise from 1/25, then half a cosine to 1/10,000 (Smith 2017, arXiv:1708.07120; the momentum stays).
    """
    if config.schedule == "constant":
        return 1.0
    first, last = (0.0, 0.0) if config.schedule == "cosine" else (1 / 25, 1e-4)
    warmup = config.warmup_fraction * steps
    if step < warmup:
        # The first of w warm-up steps is one w-th of the way up, so that no step has a rate of 0.
        return first + (1 - first) * (step + 1) / math.ceil(warmup)
    progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
