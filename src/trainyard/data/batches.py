"""Batches as tensors. The order of an epoch is a function of (seed, epoch); nothing about it needs to be saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


Held = Mapping[str, Tensor]
"""Arrays of a split, whole, on the device that trains."""
HELD = ("images", "masks", "labels", "tokens", "values")
NOTHING: Held = {}
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
        self.begin = (0, 0)
        """Epoch and step, both 0-based, from which an interrupted training goes on."""
        self.held = NOTHING
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

    def share_of(self, rank: int, epoch: int, step: int) -> list[int]:
        """Return a worker's samples in one step of an epoch; none where the batch is smaller than the number of workers."""
        shares = np.array_split(self.steps_of(epoch)[step], self.world_size * self.micro_batches)
        own = np.concatenate(shares[rank * self.micro_batches : (rank + 1) * self.micro_batches])
        return [int(sample) for sample in own]

    def __iter__(self) -> Iterator[Batch]:
        # Asked for when the first batch is: Lightning takes the iterator before it says which epoch it is.
        epoch, step = self.begin
        yield from self.from_step(step if epoch == self.epoch else 0)

    def from_step(self, step: int) -> Iterator[Batch]:
        """Yield what is left of the epoch from a step (0-based) on, without gathering what was before."""
        parts = self.world_size * self.micro_batches
        for indices in self.steps_of(self.epoch)[step:]:
            # Cutting costs as much as the rest of a small batch.
            shares = [indices] if parts == 1 else np.array_split(indices, parts)
            for share in shares[self.rank * self.micro_batches : (self.rank + 1) * self.micro_batches]:
                weight = parts / len(indices) * bool(len(share))
                yield gather(self.split, share if len(share) else indices[:1], weight, self.epoch, self.held)


class ScoringBatches:
    """One worker's share of a whole split, in order, without padding: every sample is counted exactly once.

    A share is empty where there are fewer samples than workers; it then holds one sample of weight 0, which is not to be
    counted, because every worker must take part in every validation.
    """

    def __init__(self, split: Split, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.split = split
        self.batch_size = batch_size
        self.held = NOTHING
        self.indices = np.array_split(np.arange(len(split)), world_size)[rank]

    def __len__(self) -> int:
        return max(1, -(-len(self.indices) // self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        if not len(self.indices):
            yield gather(self.split, np.zeros(1, dtype=np.int64), 0.0, held=self.held)
        for indices in cut(self.indices, self.batch_size):
            yield gather(self.split, indices, 1 / len(indices), held=self.held)


def eval_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield a whole split in order."""
    return iter(ScoringBatches(split, batch_size=batch_size))


def hold(split: Split, device: torch.device, room: int) -> Held:
    """Return a split's arrays on a device, or nothing where they are more than `room` bytes.

    Batches then need no copy from the host, and are put together by the device.
    """
    arrays = {name: array for name, array in split.arrays.items() if name in HELD}
    if sum(array.size * array.dtype.itemsize for array in arrays.values()) > room:
        return NOTHING
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in arrays.items()}


def gather(split: Split, indices: NDArray[np.int64], weight: float = 1.0, epoch: int = 0, held: Held = NOTHING) -> Batch:
    """Copy some samples out of a memory-mapped split, or out of what a device holds of it."""
    inputs, targets = _windows(split, indices, held) if split.kind == "forecasting" else _labelled(split, indices, held)
    return Batch(inputs, targets, weight, torch.from_numpy(np.array(indices, dtype=np.int64)), epoch)


def _rows(split: Split, name: str, rows: NDArray[np.int64], held: Held) -> Tensor:
    """Return rows of one array, on the device where it is held."""
    if name not in held:
        return torch.from_numpy(np.asarray(split.arrays[name][rows]))
    array = held[name]
    return array[torch.from_numpy(rows).to(array.device, non_blocking=True)]


def _labelled(split: Split, indices: NDArray[np.int64], held: Held) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return images or tokens with their labels or masks."""
    if split.kind == "text_classification":
        inputs: tuple[Tensor, ...] = _pad(split, indices, held)
    else:
        inputs = (_rows(split, "images", indices, held),)
    targets = _rows(split, "masks" if split.kind == "segmentation" else "labels", indices, held)
    # Classes are whole numbers; a target that is a measured number stays one, and its loss is the squared error.
    return inputs, targets.float() if targets.is_floating_point() else targets.long()


def _windows(split: Split, indices: NDArray[np.int64], held: Held) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return context and targets of some windows, without a loop over them."""
    context, horizon, targets = (int(number) for number in split.arrays["window"])
    rows = split.arrays["starts"][indices][:, None] + np.arange(context + horizon)
    values = _rows(split, "values", rows, held)
    lengths = torch.full((len(indices),), context)
    return (values[:, :context], lengths), values[:, context:, :targets]


def _pad(split: Split, indices: NDArray[np.int64], held: Held) -> tuple[Tensor, Tensor]:
    """Return tokens (N, longest) int64, padded with 0, and lengths (N,) int64, without a loop over the samples."""
    offsets = split.arrays["offsets"]
    starts = offsets[indices]
    lengths = offsets[indices + 1] - starts
    steps = np.arange(lengths.max())
    inside = steps < lengths[:, None]
    tokens = _rows(split, "tokens", np.where(inside, starts[:, None] + steps, 0), held)
    padded = tokens.long() * torch.from_numpy(inside).to(tokens.device, non_blocking=True)
    return padded, torch.from_numpy(lengths.astype(np.int64))
