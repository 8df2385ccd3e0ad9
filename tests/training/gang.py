"""A gang: real processes that train together over loopback without Ray, to be killed and started again.

They are forked from a helper that has imported torch already, so a gang of two starts in a fraction of a second.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from trainyard.data.batches import Batch
from trainyard.errors import TrainyardError
from trainyard.tasks.augmentation import Augmentation
from trainyard.training import checkpoint, fault, recorder, trace
from trainyard.training.checkpoint import scan
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.spool import Reader, Record

PATIENCE = 240.0
"""Seconds until a test gives up waiting."""
TIMING = ("seconds", "throughput/samples_per_s")
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.training.gang"])


@dataclasses.dataclass(frozen=True)
class Attempt:
    """How one start of a gang ended."""

    exit_codes: list[int]
    """By rank; negative: the signal that killed it."""
    said: list[str]
    """By rank: result, or error."""

    @property
    def finished(self) -> bool:
        return all(code == 0 for code in self.exit_codes)


class Gang:
    """Workers of one job, which may be started more than once."""

    def __init__(self, job: FitJob, world_size: int) -> None:
        self.job = job
        self.world_size = world_size
        self.folder = job.scratch_dir / "gang"
        self.attempts = 0
        job.scratch_dir.mkdir(parents=True, exist_ok=True)

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def attempt(self, faults: str = "", *, world_size: int | None = None, poison: int | None = None) -> Attempt:
        """Start all workers and wait until they have ended; augmentation fails at the sample `poison`, if there is one."""
        with self.started(faults, world_size=world_size, poison=poison) as workers:
            deadline = time.monotonic() + PATIENCE
            while any(worker.is_alive() for worker in workers):
                assert time.monotonic() < deadline, f"the gang still runs after {PATIENCE} s: {self._said()}"
                time.sleep(0.02)
            return Attempt([worker.exitcode or 0 for worker in workers], self._said())

    @contextmanager
    def started(
        self, faults: str = "", *, world_size: int | None = None, poison: int | None = None
    ) -> Iterator[list[BaseProcess]]:
        """Start all workers; end those that are left when the block ends."""
        count = world_size or self.world_size
        self.attempts += 1
        here = self.folder / f"attempt-{self.attempts}"
        here.mkdir(parents=True)
        workers: list[BaseProcess] = [
            _processes.Process(target=_work, args=(self.job, rank, count, here, faults, self.trace, poison))
            for rank in range(count)
        ]
        for worker in workers:
            worker.start()
        try:
            yield workers
        finally:
            for worker in workers:
                if worker.is_alive():
                    # SIGKILL also ends a stopped process.
                    worker.kill()
                worker.join(PATIENCE)

    def _said(self) -> list[str]:
        here = self.folder / f"attempt-{self.attempts}"
        return [path.read_text(encoding="utf-8") for path in sorted(here.glob("rank-*"))]

    def records(self) -> list[Record]:
        return list(Reader(self.job.spool).read())

    def steps(self, rank: int) -> list[dict[str, Any]]:
        """Return every pass that a rank made, repeated ones included."""
        return [json.loads(line) for line in (self.trace / f"rank-{rank}.jsonl").read_text().splitlines()]


def start_processes(work: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
    """Run a function in several processes at once, each with its own arguments, and wait until all ended well."""
    processes = [_processes.Process(target=work, args=own) for own in arguments]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


class _Strategy(DDPStrategy):
    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")


class _Environment(LightningEnvironment):
    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, world_size

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self.size

    def global_rank(self) -> int:
        return self.rank

    def local_rank(self) -> int:
        return self.rank

    def node_rank(self) -> int:
        return 0

    def set_world_size(self, size: int) -> None:
        pass

    def set_global_rank(self, rank: int) -> None:
        pass


def _work(job: FitJob, rank: int, world_size: int, folder: Path, faults: str, traces: Path, poison: int | None) -> None:
    """Run in a worker's process."""
    torch.set_num_threads(1)
    os.environ[trace.VARIABLE] = str(traces)
    if faults:
        os.environ[fault.VARIABLE] = faults
    if poison is not None:
        _poison(poison)
    # Every step is on record, not one a second, so that records can be compared.
    recorder.RECORD_SECONDS = 0.0
    said = folder / f"rank-{rank}"
    alone = world_size == 1
    try:
        if not alone:
            # By a file: a port that was free a moment ago may be taken.
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"file://{folder}/rendezvous",
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=PATIENCE),
            )
        result = fit(
            job,
            rank=rank,
            world_size=world_size,
            strategy="auto" if alone else _Strategy(broadcast_buffers=False, gradient_as_bucket_view=True),
            plugins=None if alone else [_Environment(rank, world_size)],
        )
        said.write_text(json.dumps(result.history))
    except TrainyardError as error:
        said.write_text(f"{type(error).__name__}: {error}")
        _leave(error.exit_code)
    except BaseException:
        said.write_text(traceback.format_exc())
        _leave(1)
    _leave(0)


def _poison(sample: int) -> None:
    """Let augmentation fail at a sample."""
    augment = Augmentation.__call__

    def fail(self: Augmentation, batch: Batch) -> Batch:
        if bool((batch.indices == sample).any()):
            raise ValueError("cannot be turned")
        return augment(self, batch)

    Augmentation.__call__ = fail  # type: ignore[method-assign]


def _leave(code: int) -> None:
    """End at once: a process group that lost a member would hold up an orderly end."""
    sys.stdout.flush()
    os._exit(code)


def final_state(job: FitJob) -> dict[str, Any]:
    """Return the state in the newest checkpoint, without what a clock said."""
    valid, refused = scan(job.checkpoints, job.fingerprint)
    assert not refused, refused
    state = torch.load(valid[-1].state, weights_only=True)
    kept = {name: state[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")}
    kept["history"] = [without_timing(values) for values in state["callbacks"]["Keeper"]["history"]]
    return kept


def without_timing(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in TIMING}


def differences(one: Any, two: Any, path: str = "") -> list[str]:
    """Return where two states differ, in any bit."""
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)
        return [] if same else [f"{path}: max abs difference {float((one.double() - two.double()).abs().max())}"]
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return [f"{path}: {sorted(map(str, one.keys() ^ two.keys()))}"]
        return [line for key in one for line in differences(one[key], two[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(two):
            return [f"{path}: {len(one)} and {len(two)} of them"]
        return [
            line for place, (a, b) in enumerate(zip(one, two, strict=True)) for line in differences(a, b, f"{path}/{place}")
        ]
    return [] if one == two or (one != one and two != two) else [f"{path}: {one} and {two}"]


def assert_same_end(whole: Gang, other: Gang) -> None:
    """Check that two trainings left the same weights, optimizer, metrics, steps and records, in every bit."""
    different = differences(final_state(whole.job), final_state(other.job))
    assert not different, different
    for rank in range(whole.world_size):
        expected = {(step["epoch"], step["batch"]): step for step in whole.steps(rank)}
        found = other.steps(rank)
        assert {(step["epoch"], step["batch"]) for step in found} == expected.keys()
        other_steps = [(step, like) for step in found if step != (like := expected[step["epoch"], step["batch"]])]
        assert not other_steps, f"rank {rank}: {other_steps}"
    wanted, recorded = _recorded(whole), _recorded(other)
    assert recorded == wanted, [pair for pair in zip(recorded, wanted, strict=False) if pair[0] != pair[1]]


def _recorded(gang: Gang) -> list[tuple[str, int, int, dict[str, float]]]:
    """Return every record in the order of the training; one that is there twice is there twice. What is only said is none."""
    records = [record for record in gang.records() if not record.note]
    rows = [(record.kind, record.epoch, record.step, without_timing(record.values)) for record in records]
    return sorted(rows, key=lambda row: (row[2], row[0]))


def newest_facts(gang: Gang) -> checkpoint.Facts:
    """Return what the newest checkpoint says."""
    return scan(gang.job.checkpoints, gang.job.fingerprint)[0][-1].facts


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped, as SIGSTOP leaves it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


__all__ = ["Attempt", "Gang", "assert_same_end", "differences", "final_state", "is_stopped", "newest_facts"]
