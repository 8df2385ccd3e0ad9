"""A batch of the training split as one epoch sees it: changed on the device, all samples at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainyard.data.batches import Batch
from trainyard.data.raw import Kind
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.draws import Draws, Slot
from trainyard.tasks.geometry import move
from trainyard.tasks.pixels import change_values, cut_out, image_levels

Augment = Callable[[Batch], Batch]
UNKNOWN_TOKEN = 1
"""Its id in every vocabulary."""


def build_augmentation(config: AugmentConfig | None, kind: Kind, seed: int, mean: Sequence[float]) -> Augment:
    """Return what changes a batch of the training split; without a config, nothing.

    Args:
        config: what may happen.
        kind: of the data.
        seed: of the training.
        mean: of each channel over the training split, in 0..1; for images.
    """
    if config is None:
        return unchanged
    return Augmentation(config=config, kind=kind, seed=seed, mean=tuple(mean))


def unchanged(batch: Batch) -> Batch:
    """Return a batch as it is."""
    return batch


class Guarded:
    """An augmentation that names the samples it fails at.

    One worker alone would leave the others waiting for it in the next reduction. So the weight becomes NaN, as the
    gradients of all workers then do, and they stop in the same step, with `problem`.
    """

    def __init__(self, augment: Augment) -> None:
        self.augment = augment
        self.problem = ""

    def __call__(self, batch: Batch) -> Batch:
        """Return the augmented batch, or the batch as it is with weight NaN."""
        try:
            return self.augment(batch)
        except Exception as error:
            samples = [sample for place, sample in enumerate(batch.indices.tolist()) if not self._works(batch, place)]
            named = ", ".join(map(str, samples[:8] or batch.indices.tolist()[:8]))
            self.problem = (
                f"train.augment fails at training samples {named} ({type(error).__name__}: {error}); "
                "look at these samples, or change train.augment"
            )
            return batch._replace(weight=math.nan)

    def _works(self, batch: Batch, place: int) -> bool:
        inputs = tuple(tensor[place : place + 1] for tensor in batch.inputs)
        alone = batch._replace(
            inputs=inputs, targets=batch.targets[place : place + 1], indices=batch.indices[place : place + 1]
        )
        try:
            self.augment(alone)
        except Exception:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Changes the samples of a batch, each by (seed, epoch, its index) alone."""

    config: AugmentConfig
    kind: Kind
    seed: int
    """Of the training."""
    mean: tuple[float, ...]
    """Of each channel over the training split, in 0..1; not used for other data than images."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch of `batch.epoch`. Images stay uint8 where whole pixels move, and are float32 in 0..255 else."""
        config, draws = self.config, Draws(self.seed, batch.epoch, batch.indices)
        match self.kind:
            case "image_classification":
                return batch._replace(inputs=(self._see(batch.inputs[0], None, draws)[0],))
            case "segmentation":
                images, masks = self._see(batch.inputs[0], batch.targets, draws)
                return batch._replace(inputs=(images,), targets=batch.targets if masks is None else masks)
            case "text_classification":
                tokens, lengths = batch.inputs
                return batch._replace(inputs=(drop_tokens(tokens, config.token_dropout, draws), lengths))
            case "forecasting":
                values, lengths = batch.inputs
                values, targets = change_series(values, batch.targets, config, draws)
                return batch._replace(inputs=(values, lengths), targets=targets)

    def _see(self, images: Tensor, masks: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor | None]:
        levels = image_levels(images) if self.config.contrast else None
        channels_last = images.shape[1] > 1 and images.is_contiguous(memory_format=torch.channels_last)
        images, masks = move(images, masks, self.config, draws)
        images = change_values(images, levels, self.config, draws)
        if self.config.cutout:
            images = cut_out(images, self.config.cutout, self.mean, draws)
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images, masks


def drop_tokens(tokens: Tensor, share: float, draws: Draws) -> Tensor:
    """Return tokens (N, T) int64 of which a share is unknown (id 1), padding (id 0) aside (Dai 2015, arXiv:1511.01432)."""
    if not share:
        return tokens
    dropped = (draws.shares(Slot.TOKENS, tokens.shape[1]) < share * 2**24) & (tokens != 0)
    return tokens.masked_fill(dropped, UNKNOWN_TOKEN)


def change_series(values: Tensor, targets: Tensor, config: AugmentConfig, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return a series with other amplitudes and noise.

    Args:
        values: what is seen (N, context_length, F), standardised, targets first.
        targets: what follows (N, horizon, D); they get the amplitude of what is seen, and no noise.
        config: what may happen.
        draws: of the N samples.
    """
    if config.scale != (1.0, 1.0):
        factor = draws.uniform(Slot.SCALE, *config.scale)[:, None, None]
        values = values.clone()
        values[:, :, : targets.shape[2]] *= factor
        targets = targets * factor
    if config.jitter:
        values = values + draws.normal(Slot.JITTER, values[0].numel()).view(values.shape) * config.jitter
    return values, targets
