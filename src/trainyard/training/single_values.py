"""Batch normalisation of one sample whose features are one pixel: it has nothing to compare, and torch stops at it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trainyard.data.batches import TrainBatches, gather
from trainyard.errors import InputError
from trainyard.tasks.train_config import TrainConfig


def check_single_values(network: nn.Module, batches: TrainBatches, config: TrainConfig) -> None:
    """Refuse a network that one sample is too little for, where some step or worker has one: it is often the last of an epoch.

    Args:
        network: of images, in training mode; it is left as it is.
        batches: of one worker, who knows how many there are.
        config: of the training.

    Raises:
        InputError: saying how the samples are cut.
    """
    if config.batch_statistics == "global" and batches.world_size > 1:
        return
    if smallest_part(batches) > 1 or not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        return
    (images,) = gather(batches.split, batches.steps_of(0)[0][:1]).inputs
    crop = config.augment and config.augment.crop
    seen = images if not crop else images[..., : crop[0], : crop[1]]
    try:
        # Shapes alone: a large image, of which batches are often one, would take minutes on a processor.
        with torch.random.fork_rng(), torch.no_grad():
            copy.deepcopy(network).to("meta")(seen.to("meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        cut = "" if _parts(batches) == 1 else f", cut into {_parts(batches)}"
        raise InputError(
            f"train.batch_size: {len(batches.split):,} samples in batches of {batches.batch_size:,}{cut}, leave one sample "
            "alone, of which batch normalisation can tell nothing where features are one pixel; use another train.batch_size, "
            "normalisation: group, a network that halves images less often, or larger images"
        ) from None


def smallest_part(batches: TrainBatches) -> int:
    """Return the fewest samples that a worker has in one pass; of an empty part, it takes one that does not count."""
    sizes = {batches.batch_size, len(batches.split) % batches.batch_size or batches.batch_size}
    return max(1, min(sizes) // _parts(batches))


def _parts(batches: TrainBatches) -> int:
    return batches.world_size * batches.micro_batches
