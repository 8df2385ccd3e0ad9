"""What machines and workers use while they train: sampled in a thread of each worker, recorded by the driver in the one run.

A sample is a few reads of /proc, 1 ms every 5 s. It goes over the noticeboard, the newest one in the place of the one before,
so that nobody waits for anybody: while Ray's head or the tracking server is away, samples are lost, and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from trainyard.training.beat import STEP_PHASES, WAITING, Progress
from trainyard.training.timing import LOAD_SECONDS

Values = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a worker, and at its machine where it is the first one there."""

    rank: int
    host: str
    pid: int
    at: float
    """Seconds since 1970, by the worker's clock."""
    machine: Values
    """Under MLflow's own names; empty for all but the first worker of a machine."""
    process: Values
    steps: int
    """Optimizer steps that this process has done."""
    step_seconds: float
    """In all of them, data included."""
    wait_seconds: float
    """Of these, between two steps: until the next batch is there, and for what is noted down of the last one."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Sample:
        return Sample(**json.loads(data))


class Machine:
    """Processors, memory, disk, network and GPUs of this machine, under the names of MLflow's page of system metrics."""

    def __init__(self) -> None:
        self._network = psutil.net_io_counters()
        self._cards = _gpus()
        psutil.cpu_percent()  # it counts from the call before

    def look(self) -> Values:
        """Return what is in use now."""
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            **{key: value for number, card in enumerate(self._cards) for key, value in _gpu(number, card).items()},
        }
        if network is not None and self._network is not None:
            values["network_receive_megabytes"] = (network.bytes_recv - self._network.bytes_recv) / 1e6
            values["network_transmit_megabytes"] = (network.bytes_sent - self._network.bytes_sent) / 1e6
        return {key: round(float(value), 1) for key, value in values.items()}


class Sampler:
    """The thread of a worker that looks at it and posts what it sees; at its end once more, for short trainings."""

    def __init__(self, progress: Progress, *, first: bool, post: Callable[[Sample], None]) -> None:
        """Begin with the block.

        Args:
            progress: where the worker's training is.
            first: whether this worker looks at the machine too.
            post: hands a sample to the driver.
        """
        self.progress = progress
        self.post = post
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._machine = Machine() if first else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> Sample:
        """Return a sample of now."""
        spent = dict(self.progress.spent)
        return Sample(
            rank=self.progress.place.rank,
            host=self.progress.place.host,
            pid=self.progress.place.pid,
            at=time.time(),
            machine=self._machine.look() if self._machine is not None else {},
            process=self._own(),
            steps=self.progress.steps,
            step_seconds=sum(spent.get(phase, 0.0) for phase in STEP_PHASES),
            wait_seconds=spent.get(WAITING, 0.0),
        )

    def _own(self) -> Values:
        values = {
            "cpu_usage_percentage": self._process.cpu_percent(),
            "memory_usage_megabytes": self._process.memory_info().rss / 1e6,
            "memory_peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            values["gpu_memory_allocated_megabytes"] = torch.cuda.memory_allocated() / 1e6
            values["gpu_memory_peak_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
        return {key: round(float(value), 1) for key, value in values.items()}

    def _work(self) -> None:
        over = False
        while not over:
            over = self._over.wait(LOAD_SECONDS)
            # Ray's head is away, and says so in many ways; or what is looked at is not there on this machine.
            with suppress(Exception):
                self.post(self.look())


@dataclass(slots=True)
class Loads:
    """The driver's end: what samples come to, by the names of metrics."""

    host: str
    """The driver's own, which tracking looks at itself."""
    last: dict[int, Sample] = field(default_factory=dict)
    """By rank."""
    hosts: set[str] = field(default_factory=set)

    def take(self, sample: Sample) -> Values:
        """Return what a sample adds to the run: of its worker, and of its machine where there are several."""
        before = self.last.get(sample.rank)
        self.last[sample.rank] = sample
        self.hosts.add(sample.host)
        values = {f"system/rank_{sample.rank}/{key}": value for key, value in sample.process.items()}
        if len(self.hosts | {self.host}) > 1:
            values |= {f"system/{sample.host}/{key}": value for key, value in sample.machine.items()}
        if before is None or before.pid != sample.pid or before.steps > sample.steps:
            before = None
        steps = sample.steps - (before.steps if before else 0)
        if steps > 0:
            spent = sample.step_seconds - (before.step_seconds if before else 0.0)
            waited = sample.wait_seconds - (before.wait_seconds if before else 0.0)
            values[f"system/rank_{sample.rank}/step_seconds"] = spent / steps
            values[f"system/rank_{sample.rank}/data_wait_seconds"] = waited / steps
        return values

    def memory(self) -> dict[str, int]:
        """Return the most bytes of a worker, and of a worker on its GPU."""
        names = {"worker_bytes": "memory_peak_megabytes", "worker_gpu_bytes": "gpu_memory_peak_megabytes"}
        found = {
            key: [int(s.process[name] * 1e6) for s in self.last.values() if name in s.process] for key, name in names.items()
        }
        return {key: max(values) for key, values in found.items() if values}

    def summary(self) -> Values:
        """Return one figure each for the training: the time of a step, of which for data, and the most memory of a worker."""
        trained = [sample for sample in self.last.values() if sample.steps]
        if not trained:
            return {}
        found = {
            "throughput/step_seconds": max(sample.step_seconds / sample.steps for sample in trained),
            "throughput/data_wait_seconds": max(sample.wait_seconds / sample.steps for sample in trained),
        }
        for name in ("memory_peak_megabytes", "gpu_memory_peak_megabytes"):
            if peaks := [sample.process[name] for sample in trained if name in sample.process]:
                found[f"memory/worker_{name.removeprefix('memory_')}"] = max(peaks)
        return found


def _gpus() -> list[Any]:
    """Return the GPUs' handles, where NVIDIA's library is installed."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, no driver, no card: its errors have no common base without it
        return []


def _gpu(number: int, card: Any) -> Values:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        return {
            f"gpu_{number}_memory_usage_percentage": 100 * memory.used / memory.total,
            f"gpu_{number}_memory_usage_megabytes": memory.used / 1e6,
            f"gpu_{number}_utilization_percentage": pynvml.nvmlDeviceGetUtilizationRates(card).gpu,
            f"gpu_{number}_power_usage_watts": pynvml.nvmlDeviceGetPowerUsage(card) / 1000,
        }
    except pynvml.NVMLError:
        return {}
