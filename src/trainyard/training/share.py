"""What each worker alone has within an epoch: running statistics of its own samples, and the sum of its losses.

Weights, optimizer and schedule are the same on all workers, and one of them saves them for all. This is the rest, gathered
for a checkpoint within an epoch. At the end of an epoch there is none: statistics are averaged, and sums are reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor
from torchmetrics import MeanMetric

Share = dict[str, Tensor]
"""Tensors of one worker, by name."""
LOSS = "train_loss."
AVERAGED = "averaged."
"""In front of the names of the network whose weights are averaged."""


def workers() -> int:
    """Return how many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather(module: pl.LightningModule) -> list[Share]:
    """Return the share of each worker, by rank; all of them must call it at the same step."""
    own = {name: tensor.detach().clone() for name, tensor in _tensors(module)}
    if workers() == 1:
        return [own]
    # One message for all of it, and one type that holds each of them exactly.
    flat = torch.cat([tensor.flatten().double() for tensor in own.values()])
    every = [torch.empty_like(flat) for _ in range(workers())]
    torch.distributed.all_gather(every, flat)
    shares = []
    for received in every:
        pieces = torch.split(received, [tensor.numel() for tensor in own.values()])
        shares.append(
            {name: piece.view(like.shape).to(like.dtype) for (name, like), piece in zip(own.items(), pieces, strict=True)}
        )
    return shares


@torch.no_grad()
def restore(module: pl.LightningModule, shares: list[Share], rank: int) -> None:
    """Give a worker its share back; with another number of workers, the mean of the statistics and its part of the sums."""
    if len(shares) == workers():
        mine = shares[rank]
    else:
        mine = {name: torch.stack([share[name].double() for share in shares]) for name in shares[0]}
        for name, every in mine.items():
            mine[name] = every[rank :: workers()].sum(dim=0) if name.startswith(LOSS) else every.mean(dim=0)
    for name, tensor in _tensors(module):
        tensor.copy_(mine[name])
    loss: MeanMetric = module.train_loss  # type: ignore[assignment]
    if float(loss.weight):
        # torchmetrics warns of a mean that was never updated.
        loss._update_count = max(1, loss._update_count)


def average_statistics(module: pl.LightningModule) -> None:
    """Give all workers the mean of their running statistics, so they score, and save, the same network."""
    if workers() == 1:
        return
    for name, tensor in _tensors(module):
        if not name.startswith(LOSS):
            torch.distributed.all_reduce(tensor)
            tensor /= workers()


def _tensors(module: pl.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors themselves, in one order on all workers."""
    for prefix, network in (("", module.network), (AVERAGED, module.averaged)):
        for name, buffer in () if network is None else network.named_buffers():  # type: ignore[union-attr]
            # Those that count batches are the same on all workers.
            if buffer.is_floating_point():
                yield f"{prefix}{name}", buffer
    loss = module.train_loss
    yield f"{LOSS}mean_value", loss.mean_value  # type: ignore[union-attr, misc]
    yield f"{LOSS}weight", loss.weight  # type: ignore[union-attr, misc]
