"""The training loop in the open: what training/fit.py has Lightning do, on one page, to look at single steps and gradients.

Batches, losses, optimizers and schedules are those of every training; tests compare the two, loss by loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainyard.data.batches import Batch, TrainBatches, eval_batches
from trainyard.data.packed import Card, Split
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.losses import sample_losses, share_of_loss
from trainyard.tasks.optimization import build_optimizer, build_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One round of the loop, before its update."""

    number: int
    """0-based."""
    epoch: int
    """0-based."""
    loss: float
    """Of the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a network is on a split."""

    loss: float
    accuracy: float


def build(recipe: Recipe, card: Card) -> nn.Module:
    """Return the untrained network of a recipe, drawn with the recipe's seed as in every training."""
    torch.manual_seed(recipe.train.seed)
    return build_network(recipe.model, InputSpec.from_card(card))


def train(network: nn.Module, recipe: Recipe, split: Split) -> Iterator[Step]:
    """Train a network, and stop at each step when its gradients are there and nothing is updated yet."""
    config = recipe.train
    size = len(split) if config.batch_size == "full" else config.batch_size
    batches = TrainBatches(split, batch_size=size, seed=config.seed)
    optimizer = build_optimizer(network, config)
    schedule = build_schedule(optimizer, config, config.epochs * batches.steps)
    network.train()
    number = 0
    for epoch in range(config.epochs):
        batches.epoch = epoch
        for batch in batches:
            optimizer.zero_grad()
            loss = batch_loss(network, recipe, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if config.gradient_clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            yield Step(number=number, epoch=epoch, loss=float(loss.detach()))
            optimizer.step()
            schedule.step()
            number += 1


def train_whole(network: nn.Module, recipe: Recipe, split: Split) -> list[float]:
    """Train a network to its end; return the loss of each step."""
    return [step.loss for step in train(network, recipe, split)]


def train_by_epoch(network: nn.Module, recipe: Recipe, split: Split) -> Iterator[int]:
    """Train a network, and stop after each epoch."""
    epoch = 0
    for step in train(network, recipe, split):
        if step.epoch > epoch:
            yield epoch
            epoch = step.epoch
    yield epoch


def batch_loss(network: nn.Module, recipe: Recipe, batch: Batch) -> Tensor:
    """Return the mean loss of a batch."""
    return share_of_loss(sample_losses(network(*batch.inputs), batch.targets, recipe.train, None), batch.weight)


def whole(split: Split) -> Batch:
    """Return a split as one batch."""
    return next(eval_batches(split, len(split)))


@torch.no_grad()
def score(network: nn.Module, recipe: Recipe, batches: Iterable[Batch]) -> Score:
    """Return loss and accuracy of a network, of labels or pixels, as it would be used: without dropout."""
    was_training = network.training
    network.eval()
    losses, right = [], []
    for batch in batches:
        logits = network(*batch.inputs)
        losses.append(sample_losses(logits, batch.targets, recipe.train, None))
        right.append((logits.argmax(dim=1) == batch.targets).flatten())
    network.train(was_training)
    return Score(loss=float(torch.cat(losses).double().mean()), accuracy=float(torch.cat(right).double().mean()))


def gradient(network: nn.Module) -> Tensor:
    """Return the gradient of all parameters that are trained as one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.requires_grad and p.grad is not None])
