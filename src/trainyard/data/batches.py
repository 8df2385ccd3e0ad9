"""Batches as tensors. The order of an epoch is a function of (seed, epoch); nothing about it needs to be saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainyard.data.packed import Split


class Batch(NamedTuple):
    """Some samples, as a network and its loss take them."""

    inputs: tuple[Tensor, ...]
    """images (N, C, H, W) uint8; or tokens (N, T) int64, padded with 0, or standardised values (N, context_length, F)
    float32, and lengths (N,) int64."""
    targets: Tensor
    """labels (N,) int64, masks (N, H, W) int64, numbers (N,) float32, or standardised values (N, horizon, D) float32."""
    weight: float
    """Factor of each sample's loss, so that the mean gradient over workers is that of the global batch's mean loss."""
    indices: Tensor
    """(N,) int64, the samples' places in their split."""
    epoch: int
    """0-based; 0 where nothing is trained."""


WINDOW_BATCHES = 50
"""Texts are sorted by length among the samples of so many batches."""


def epoch_batches(
    seed: int, epoch: int, samples: int, batch_size: int, lengths: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Return the samples of each global batch of an epoch, in random order.

    Args:
        seed: of the training.
        epoch: 0-based.
        samples: in the split.
        batch_size: samples of a batch; one of the batches holds the remainder.
        lengths: (samples,) where they differ: each batch then holds samples of similar length, so little is padded.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = generator.permutation(samples)
    if lengths is None:
        return cut(order, batch_size)
    windows = cut(order, WINDOW_BATCHES * batch_size)
    by_length = np.concatenate([window[np.argsort(lengths[window], kind="stable")] for window in windows])
    batches = cut(by_length, batch_size)
    return [batches[position] for position in generator.permutation(len(batches))]


def cut(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cut samples into pieces of a size; the last one holds the remainder."""
    return [order[start : start + size] for start in range(0, len(order), size)]


class TrainBatches:
    """One worker's share of every global batch of an epoch: an iterable that Lightning takes as a loader.

    A global batch is cut into `world_size * micro_batches` nearly equal parts. A part can be empty where the batch is
    smaller than that; it then holds one sample of weight 0, because every worker must take part in every step.
    """

    def __init__(
        self, split: Split, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, micro_batches: int = 1
    ) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.micro_batches = micro_batches
        self.epoch = 0
        self.lengths = np.diff(split.arrays["offsets"]) if "offsets" in split.arrays else None

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.split) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * self.micro_batches

    def steps_of(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the samples in the global batch of each step of an epoch."""
        return epoch_batches(self.seed, epoch, len(self.split), self.batch_size, self.lengths)

    def __iter__(self) -> Iterator[Batch]:
        parts = self.world_size * self.micro_batches
        for indices in self.steps_of(self.epoch):
            shares = np.array_split(indices, parts)
            for share in shares[self.rank * self.micro_batches : (self.rank + 1) * self.micro_batches]:
                weight = parts / len(indices) * bool(len(share))
                yield gather(self.split, share if len(share) else indices[:1], weight, self.epoch)


class ScoringBatches:
    """One worker's share of a whole split, in order, without padding: every sample is counted exactly once."""

    def __init__(self, split: Split, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.split = split
        self.batch_size = batch_size
        self.indices = np.array_split(np.arange(len(split)), world_size)[rank]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for indices in cut(self.indices, self.batch_size):
            yield gather(self.split, indices, 1 / len(indices))


def eval_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield a whole split in order."""
    return iter(ScoringBatches(split, batch_size=batch_size))


def gather(split: Split, indices: NDArray[np.int64], weight: float = 1.0, epoch: int = 0) -> Batch:
    """Copy some samples out of a memory-mapped split."""
    inputs, targets = _windows(split, indices) if split.kind == "forecasting" else _labelled(split, indices)
    return Batch(inputs, targets, weight, torch.from_numpy(np.array(indices, dtype=np.int64)), epoch)


def _labelled(split: Split, indices: NDArray[np.int64]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return images or tokens with their labels or masks."""
    arrays = split.arrays
    if split.kind == "text_classification":
        inputs: tuple[Tensor, ...] = _pad(arrays["tokens"], arrays["offsets"], indices)
    else:
        inputs = (torch.from_numpy(arrays["images"][indices]),)
    targets = torch.from_numpy(np.asarray(arrays["masks" if split.kind == "segmentation" else "labels"][indices]))
    # Classes are whole numbers; a target that is a measured number stays one, and its loss is the squared error.
    return inputs, targets.float() if targets.is_floating_point() else targets.long()


def _windows(split: Split, indices: NDArray[np.int64]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return context and targets of some windows, without a loop over them."""
    context, horizon, targets = (int(number) for number in split.arrays["window"])
    rows = split.arrays["starts"][indices][:, None] + np.arange(context + horizon)
    values = torch.from_numpy(split.arrays["values"][rows])
    lengths = torch.full((len(indices),), context)
    return (values[:, :context], lengths), values[:, context:, :targets]


def _pad(tokens: NDArray[np.int32], offsets: NDArray[np.int64], indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return tokens (N, longest) int64, padded with 0, and lengths (N,) int64, without a loop over the samples."""
    starts = offsets[indices]
    lengths = offsets[indices + 1] - starts
    steps = np.arange(lengths.max())
    inside = steps < lengths[:, None]
    padded = np.where(inside, tokens[np.where(inside, starts[:, None] + steps, 0)], 0)
    return torch.from_numpy(padded.astype(np.int64)), torch.from_numpy(lengths.astype(np.int64))
