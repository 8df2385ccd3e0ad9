"""How long a training stands still when a worker is lost: from the signal to the next step that is new.

    python benchmarks/restart.py --kills 20
    python benchmarks/restart.py --kills 10 --signal STOP

Two workers train digits on a private Ray, one of them is killed (or stopped, so that it hangs) again and again, each time at
a random moment; median, 95th percentile and maximum. A step counts as new when it is further than any step before the signal.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from small_digits import DATA, recipe

from trainyard.data.prepare import prepare
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import processors
from trainyard.training.job import FitJob
from trainyard.training.launch import Launch, started
from trainyard.training.spool import Reader

ENOUGH_EPOCHS = 1_000_000


def make_job(folder: Path) -> FitJob:
    prepare("digits", DATA, folder / "packed")
    (folder / "scratch").mkdir()
    return FitJob(
        recipe=recipe(epochs=ENOUGH_EPOCHS, batch_size=64, learning_rate=1e-4, schedule="constant", warmup_fraction=0.0),
        data_dir=folder / "packed",
        scratch_dir=folder / "scratch",
        fingerprint="restart",
        checkpoint_seconds=5.0,
    )


class Killer:
    """Kills a worker when its time has come, and measures until a step is new."""

    def __init__(self, launch: Launch, kills: int, warm: float, seed: int, number: int) -> None:
        self.launch, self.kills, self.warm, self.signal = launch, kills, warm, number
        self.random = random.Random(seed)
        self.seconds: list[float] = []
        self.next = self.killed = 0.0
        self.reader, self.step, self.highest = Reader(launch.job.spool), 0, 0

    def __call__(self) -> None:
        for record in self.reader.read():
            self.step = record.step
        now = time.monotonic()
        if not self.step:
            return
        if self.killed:
            if self.step > self.highest:
                self.seconds.append(now - self.killed)
                print(f"{len(self.seconds):3d}  {self.seconds[-1]:6.2f} s", flush=True)
                self.killed = self.next = 0.0
                if len(self.seconds) == self.kills:
                    raise KeyboardInterrupt
        elif not self.next:
            self.next = now + self.warm + self.random.uniform(0, 5)
        elif now >= self.next:
            victim = self.random.choice(sorted(beat.place.pid for beat in self.launch.beats()))
            if psutil.pid_exists(victim):
                self.highest, self.killed = self.step, time.monotonic()
                os.kill(victim, self.signal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--warm", type=float, default=20.0, help="seconds of training before each kill, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=["KILL", "STOP"], default="KILL", help="STOP: a worker that hangs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(Path(folder))
        with started(job, ClusterConfig(workers=2, max_restarts=arguments.kills + 1)) as launch:
            launch.ready()
            killer = Killer(launch, arguments.kills, arguments.warm, arguments.seed, signal.Signals[f"SIG{arguments.signal}"])
            try:
                launch.wait(killer)
            except KeyboardInterrupt:
                seconds = sorted(killer.seconds)
    late = seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))]
    print(
        f"{len(seconds)} times SIG{arguments.signal}: median {statistics.median(seconds):.2f} s, 95th percentile {late:.2f} s, "
        f"most {seconds[-1]:.2f} s; {processors()} processors, {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
