"""The parts of `make bench` that measure whole commands: `train` beside its steps, its memory, an idle `dvc repro`."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from bench_result import Asked, Part, Skipped
from bench_show import MEMORY, OUTSIDE
from startup import ROOT, TRAIN, Side

SAMPLE_SECONDS = 0.25
"""Between two looks at the memory of all processes."""


def stages(asked: Asked) -> list[Part]:
    """Measure the stage on the digits, in this process and on two workers, and then what DVC takes to find nothing to do."""
    for package in ("dvc", "mlflow", "ray"):
        if importlib.util.find_spec(package) is None:
            raise Skipped(f"{package} is not installed")
    if shutil.which("git") is None:
        raise Skipped("git is not installed")
    side = Side(ROOT, asked.folder / "project")
    nothing = [elapsed(side, ("dvc", "repro")) for _ in range(asked.repeats)]
    outside: dict[str, list[float]] = {"no workers": [], "two workers": []}
    memory: dict[str, list[float]] = {"no workers": [], "two workers": []}
    for _ in range(asked.repeats):
        for name, number in (("no workers", 0), ("two workers", min(2, asked.processors))):
            for made in (".trainyard", "models", "reports"):
                shutil.rmtree(side.folder / made, ignore_errors=True)
            side.workers(number)
            with Memory() as used:
                taken = elapsed(side, TRAIN)
            outside[name].append(taken - steps_of(side.folder / "reports" / "cnn" / "history.csv"))
            memory[name].append(used.peak / 2**30)
            asked.say(f"train, {name}: {taken:.1f} s, {outside[name][-1]:.1f} s outside steps, {memory[name][-1]:.2f} GiB")
    side.workers(0)
    return [
        Part(OUTSIDE, "s", outside),
        Part(MEMORY, "GiB", memory),
        Part("dvc repro, nothing to do", "s", {"dvc repro": nothing}),
    ]


def elapsed(side: Side, command: Sequence[str]) -> float:
    """Run a command in the project; return its seconds on the clock."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=side.folder, env=side.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return time.perf_counter() - began


def steps_of(history: Path) -> float:
    """Return the seconds from the first step to the end of the last epoch."""
    with history.open() as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


class Memory:
    """The most memory that all processes below this one take together; what they share counts once."""

    def __enter__(self) -> Memory:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            total = 0
            for process in psutil.Process(os.getpid()).children(recursive=True):
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.peak = max(self.peak, total)
