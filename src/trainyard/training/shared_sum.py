"""Gradients of the workers of one machine, averaged in memory that they share.

Gloo hands a sum from thread to thread and through the loopback device. Where every processor trains, each of these threads
waits for its turn, and a sum of 300 kB that takes 0.1 ms takes 2 to 4: a tenth of a small network's step. Here each worker
writes its gradients down where all can read them and adds up those of all, in the order of their ranks.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

LARGEST = 64 * 2**20
"""Bytes of shared memory; with more, moving them takes longer than waiting, and a ring moves fewer."""
LINE = 64
"""Bytes that processors hand each other at once: each worker's numbers have some of their own."""
PAUSE, LONG_PAUSE = 5e-5, 1e-3
"""Seconds between two looks, at first and later on."""
LATER = 0.05
"""Seconds of waiting after which what comes is no longer the end of a step."""
ASK_SECONDS = 0.2
"""Between two questions whether who is waited for still lives."""
_DONE, _LEFT = 0, 1
"""Places in a worker's line: how many sums it has given its part to, and whether it has left."""
_NAME = "trainyard-gradients"


class PeerLost(RuntimeError):
    """Another worker ended, left or did not come while this one waited for its gradients."""


class SharedSum:
    """Memory of several processes, to which each gives its numbers and from which each takes the mean of all.

    There is room for two sums in turn. Who gives to a sum has taken the one before it, so that nobody writes what another
    still reads. A worker holds a lock on a byte of its own, which the kernel opens when the process ends, however that happens.
    """

    def __init__(self, file: int, rank: int, workers: int, nbytes: int, timeout: float) -> None:
        """Map the memory and hold this worker's lock.

        Args:
            file: a descriptor of the memory, as `new_file` made it; it is this object's from now on.
            rank: this worker, from 0.
            workers: how many there are.
            nbytes: the most that a worker gives to one sum.
            timeout: seconds after which a worker that still lives is no longer waited for.
        """
        self.file, self.rank, self.workers, self.timeout = file, rank, workers, timeout
        self.part = _lines(nbytes)
        self.memory = mmap.mmap(file, size_of(workers, nbytes))
        self.lines = np.frombuffer(self.memory, np.int64, workers * LINE // 8).reshape(workers, LINE // 8)
        self.sums = 0
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)

    def average(self, values: Tensor) -> None:
        """Replace each worker's values (N,) by their mean over all workers, which has the same bits on each of them.

        Raises:
            PeerLost: a worker has ended, has left, or lets the others wait for longer than the timeout.
        """
        turn = self.sums % 2
        self._part(turn, self.rank, values).copy_(values)
        self.sums += 1
        # A processor of this kind shows others what it writes in the order in which it writes: first the values, then this.
        self.lines[self.rank, _DONE] = self.sums
        for rank in range(self.workers):
            self._wait_for(rank)
        torch.add(self._part(turn, 0, values), self._part(turn, 1, values), out=values)
        for rank in range(2, self.workers):
            values.add_(self._part(turn, rank, values))
        values.mul_(1 / self.workers)

    def leave(self) -> None:
        """Let others no longer wait for this worker; it can give nothing more."""
        self.lines[self.rank, _LEFT] = 1
        os.close(self.file)

    def _part(self, turn: int, rank: int, like: Tensor) -> Tensor:
        place = self.workers * LINE + (turn * self.workers + rank) * self.part
        return torch.frombuffer(self.memory, dtype=like.dtype, count=like.numel(), offset=place)

    def _wait_for(self, rank: int) -> None:
        began = asked = time.monotonic()
        pause = PAUSE
        while self.lines[rank, _DONE] < self.sums:
            time.sleep(pause)
            now = time.monotonic()
            if now - began > LATER:
                pause = LONG_PAUSE
            if now - asked < ASK_SECONDS:
                continue
            asked = now
            # What was given before the end counts.
            gone = self.lines[rank, _LEFT] or not self._lives(rank)
            if gone and self.lines[rank, _DONE] < self.sums:
                raise PeerLost(f"worker {rank} ended while others waited for its gradients")
            if now - began > self.timeout:
                raise PeerLost(f"worker {rank} has not given its gradients within {self.timeout:.0f} s")

    def _lives(self, rank: int) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        except OSError:
            return True
        # Given back at once: others ask the same.
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, rank)
        return False


def size_of(workers: int, nbytes: int) -> int:
    """Return the bytes of memory for sums of so many bytes."""
    return workers * LINE + 2 * workers * _lines(nbytes)


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


def share_memory(nbytes: int, timeout: float) -> SharedSum | None:
    """Return memory for sums of all workers of the process group, which must call this together.

    None where they do not share a machine, or it has no memory left for that, or its processors may show others what they write
    in another order (all but x86-64): then none of the workers gets any.
    """
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    size = size_of(workers, nbytes)
    file, seal = -1, secrets.token_bytes(16)
    if rank == 0 and size <= LARGEST:
        file = new_file(size, seal)
    offered: list[Any] = [(os.getpid(), file, seal)]
    torch.distributed.broadcast_object_list(offered, src=0)
    pid, number, seal = offered[0]
    if rank != 0 and number >= 0:
        file = open_file(Path(f"/proc/{pid}/fd/{number}"), size, seal)
    found: list[Any] = [None] * workers
    torch.distributed.all_gather_object(found, file >= 0)
    if all(found):
        shared = SharedSum(file, rank, workers, nbytes, timeout)
        # Nobody asks for a lock before all hold theirs.
        torch.distributed.barrier()
        return shared
    if file >= 0:
        os.close(file)
    return None


def new_file(size: int, seal: bytes) -> int:
    """Return a descriptor of new memory that begins with the seal, or -1; it is gone with the last process that has it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return -1
    file = -1
    try:
        file = os.memfd_create(_NAME)
        os.posix_fallocate(file, 0, size)
        os.pwrite(file, seal, 8 * (_LEFT + 1))
    except OSError:
        if file >= 0:
            os.close(file)
        return -1
    return file


def open_file(path: Path, size: int, seal: bytes) -> int:
    """Return a descriptor of another process's memory; -1 where it cannot be reached, or where this is something else."""
    with suppress(OSError):
        # On another machine, the same number may be a terminal's or a device's, which opening could change.
        if not os.readlink(path).startswith(f"/memfd:{_NAME}"):
            return -1
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(file).st_size == size and os.pread(file, len(seal), 8 * (_LEFT + 1)) == seal:
            return file
        os.close(file)
    return -1


class SharedGradients(pl.Callback):
    """Has the workers of one machine average their gradients in shared memory, where they train on its processors."""

    def __init__(self) -> None:
        self.shared: SharedSum | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model = trainer.strategy.model
        if not isinstance(model, DistributedDataParallel) or trainer.strategy.root_device.type != "cpu":
            return
        trained = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
        nbytes = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        self.shared = share_memory(nbytes, _patience())
        if self.shared is not None:
            # It looks for types in the hook's signature, and takes ones that are only read later for wrong.
            model.register_comm_hook(self.shared, lambda shared, bucket: _averaged(shared, bucket))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._leave()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.shared is not None:
            self.shared.leave()
            self.shared = None


def _patience() -> float:
    """Return the seconds that the process group itself would wait."""
    backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))  # type: ignore[union-attr]
    return float(backend.options._timeout.total_seconds())


def _averaged(shared: SharedSum, bucket: Any) -> Any:
    """Average a bucket of gradients; DistributedDataParallel asks for a future, for whom that takes longer."""
    values = bucket.buffer()
    shared.average(values)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(values)
    return done
