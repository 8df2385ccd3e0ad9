"""Losses by sample, so that any cut of a batch over workers and passes adds up to the mean over the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from trainyard.tasks.train_config import TrainConfig


def share_of_loss(losses: Tensor, weight: float) -> Tensor:
    """Return a worker's share of the global batch's loss, from those of its samples (N,) and the factor of each.

    A loss that is no finite number makes every gradient NaN, so that all workers see it in the same step, whatever the
    derivative at that place is.
    """
    total = losses.sum() * weight
    # 1 for every number, NaN for NaN and for infinity, in two operations.
    return total * (total.detach() * 0 + 1)


def exact_mean() -> MeanMetric:
    """Return a mean that is the same however many workers and batches it is summed over, and is NaN where a number is."""
    mean = MeanMetric(nan_strategy="disable")
    mean.set_dtype(torch.float64)
    return mean


def add_up(mean: MeanMetric, losses: Tensor) -> None:
    """Count losses (N,) into a mean as its `update` does, in three operations instead of thirty.

    In a small network `update` costs as much as the optimizer.
    """
    mean.mean_value.add_(losses.double().sum())
    mean.weight.add_(len(losses))
    mean._update_count += 1
    mean._computed = None


def sample_losses(
    logits: Tensor | tuple[Tensor, ...], targets: Tensor, config: TrainConfig, class_weights: Tensor | None
) -> Tensor:
    """Return the loss of each sample (N,).

    Args:
        logits: (N, K) or (N, K, H, W); for a number as target, the prediction (N, 1); for several, of their shape. Several
            such, under deep supervision: their mean, in which each counts half as much as the one before it.
        targets: labels (N,) int64, masks (N, H, W) int64, or numbers (N,) or (N, horizon, D) float32.
        config: names the loss.
        class_weights: (K,), of mean 1 over the training split, or None.
    """
    if isinstance(logits, tuple):
        weights = [0.5**level for level in range(len(logits))]
        levels = torch.stack([sample_losses(one, targets, config, class_weights) for one in logits])
        return (levels * levels.new_tensor(weights).unsqueeze(1) / sum(weights)).sum(dim=0)
    logits = logits.float()
    if targets.is_floating_point():
        errors = (logits.reshape(targets.shape) - targets).flatten(1 if targets.ndim > 1 else 0)
        errors = errors.abs() if config.loss == "mae" else errors.square()
        return errors.mean(dim=1) if errors.ndim > 1 else errors
    if config.loss == "mse":
        return _brier(logits, targets, class_weights)
    losses = F.cross_entropy(
        logits, targets, weight=class_weights, label_smoothing=config.label_smoothing, reduction="none"
    ).flatten(1 if logits.ndim > 2 else 0)
    if losses.ndim > 1:
        losses = losses.mean(dim=1)
    if config.loss == "cross_entropy_dice":
        losses = losses + config.dice_weight * dice_losses(logits, targets)
    return losses


def dice_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the soft Dice coefficient of each sample (N,), averaged over the classes that it shows.

    Milletari 2016, arXiv:1606.04797, equation 1 without the squares. A class that is not in the mask is left out: its
    Dice would be 0 for any prediction, and what is wrongly given to it is missing from the others' overlap.
    """
    probabilities = logits.softmax(dim=1)
    truth = F.one_hot(targets, logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    overlap = (probabilities * truth).sum(dim=(2, 3))
    truth_pixels = truth.sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + truth_pixels
    shown = truth_pixels > 0
    dice = torch.where(shown, 2 * overlap / total.clamp_min(1e-6), 0.0)
    return 1 - dice.sum(dim=1) / shown.sum(dim=1).clamp_min(1)


def _brier(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the squared error of the class probabilities (Brier 1950), summed over classes, by sample (N,)."""
    truth = F.one_hot(targets, logits.shape[1]).movedim(-1, 1)
    errors = (logits.softmax(dim=1) - truth).square().sum(dim=1)
    if class_weights is not None:
        errors = errors * class_weights[targets]
    return errors.flatten(1).mean(dim=1) if errors.ndim > 1 else errors
