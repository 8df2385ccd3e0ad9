"""Gradients in shared memory: the same mean on each worker, and no wait for one that has gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed
from tests.training.gang import start_processes

from trainyard.training import shared_sum
from trainyard.training.failure import failure_of
from trainyard.training.shared_sum import PeerLost, new_file, open_file, share_memory, size_of

pytestmark = pytest.mark.skipif(new_file(64, b"") < 0, reason="only x86-64 with Linux")
NUMBERS = 1000


def begin(folder: Path, rank: int, workers: int) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers, timeout=timedelta(seconds=60)
    )


def own(rank: int, number: int) -> torch.Tensor:
    return torch.randn(NUMBERS, generator=torch.Generator().manual_seed(100 * number + rank))


def average_often(folder: Path, rank: int, workers: int) -> None:
    begin(folder, rank, workers)
    shared = share_memory(4 * NUMBERS, 60)
    assert shared is not None
    for number in range(300):
        # Of any length, as buckets are; and one worker is late, now this one, now that.
        length = 1 + (number * 37) % NUMBERS
        if number % workers == rank and number % 10 == 0:
            time.sleep(0.002)
        values = own(rank, number)[:length].clone()
        shared.average(values)
        expected = own(0, number)[:length]
        for other in range(1, workers):
            expected = expected + own(other, number)[:length]
        assert torch.equal(values, expected * (1 / workers)), number
    shared.leave()


@pytest.mark.parametrize("workers", [2, 3])
def test_every_worker_has_the_mean_in_the_order_of_the_ranks(tmp_path: Path, workers: int) -> None:
    start_processes(average_often, [(tmp_path, rank, workers) for rank in range(workers)])


def wait_for_a_killed_one(folder: Path, rank: int) -> None:
    begin(folder, rank, 2)
    shared = share_memory(4 * NUMBERS, 60)
    assert shared is not None
    values = torch.ones(NUMBERS)
    shared.average(values)
    if rank == 1:
        (folder / "pid").write_text(str(os.getpid()))
        signal.pause()
    while not (folder / "killed").exists():
        time.sleep(0.01)
    began = time.monotonic()
    with pytest.raises(PeerLost, match="worker 1 ended while others waited") as caught:
        shared.average(values)
    assert time.monotonic() - began < 10
    assert failure_of(caught.value, "worker 0 of 2").peer
    (folder / "said").write_text("")
    os._exit(0)


def test_a_worker_that_was_killed_is_noticed(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    workers = [processes.Process(target=wait_for_a_killed_one, args=(tmp_path, rank)) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        workers[1].join(60)
        assert workers[1].exitcode == -signal.SIGKILL
        (tmp_path / "killed").touch()
        workers[0].join(60)
        assert workers[0].exitcode == 0
        assert (tmp_path / "said").exists()
    finally:
        for worker in workers:
            worker.kill()


def leave_or_wait(folder: Path, rank: int) -> None:
    begin(folder, rank, 2)
    shared = share_memory(4 * NUMBERS, 1.0)
    assert shared is not None
    values = torch.full((NUMBERS,), float(rank))
    shared.average(values)
    if rank == 1:
        time.sleep(3)
        # What was given before the end counts.
        shared.average(values)
        shared.leave()
        torch.distributed.barrier()
        return
    with pytest.raises(PeerLost, match="worker 1 has not given its gradients within 1 s"):
        shared.average(values)
    while shared.lines[1, 0] < 2:
        time.sleep(0.01)
    torch.distributed.barrier()
    with pytest.raises(PeerLost, match="worker 1 ended"):
        shared.average(values)


def test_a_worker_that_left_or_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    start_processes(leave_or_wait, [(tmp_path, rank) for rank in range(2)])


def go_without(folder: Path, rank: int) -> None:
    begin(folder, rank, 2)
    if rank == 1:
        shared_sum.open_file = lambda *_: -1
    before = len(os.listdir("/proc/self/fd"))
    assert share_memory(4 * NUMBERS, 60) is None
    assert share_memory(shared_sum.LARGEST, 60) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_one_cannot_reach_it_nobody_uses_it(tmp_path: Path) -> None:
    start_processes(go_without, [(tmp_path, rank) for rank in range(2)])


def test_another_file_is_not_taken_for_it(tmp_path: Path) -> None:
    size, seal = size_of(2, 100), b"sixteen bytes ..."
    file = new_file(size, seal)
    there = Path(f"/proc/self/fd/{file}")
    opened = open_file(there, size, seal)
    assert opened >= 0
    assert open_file(there, size, b"others' bytes ...") == -1
    assert open_file(there, size + 64, seal) == -1
    assert open_file(tmp_path / "missing", size, seal) == -1
    os.mkfifo(tmp_path / "pipe")
    assert open_file(tmp_path / "pipe", size, seal) == -1
    os.close(file)
    os.close(opened)


def test_memory_that_cannot_be_had_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert new_file(64, b"") == -1
    assert len(os.listdir("/proc/self/fd")) == before
