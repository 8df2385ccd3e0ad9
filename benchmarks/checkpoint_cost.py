"""What checkpoints within an epoch cost, a share of the training's time.

    python benchmarks/checkpoint_cost.py --seconds 10 --pairs 5

One epoch of many digits in one process, in pairs: without checkpoints within it, and with one every so many seconds. Two
answers, as a machine's speed may change by more than what is looked for from one minute to the next:

- Counted: the time for which the loop over steps stood still, plus the processor time of the thread that writes, as if the
  training had missed all of it. Nothing of the machine's noise is in it. Waits for a disk are not: the training goes on.
- Compared: samples a second with and without, the median of the pairs' ratios and the range of all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from small_digits import DATA, recipe

from trainyard.data.packed import open_split, read_card, write_arrays, write_card
from trainyard.data.prepare import prepare
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.keeper import Keeper
from trainyard.training.saver import Saver

RECIPE = recipe({"widths": (64, 128, 256), "convolutions": 2, "normalisation": "batch"}, epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="between two checkpoints")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200_000, help="of the epoch; it should last a minute")
    arguments = parser.parse_args()
    stood_still = timed(Keeper, "_save_within_epoch", time.perf_counter)
    written = timed(Saver, "_write", time.thread_time)
    with tempfile.TemporaryDirectory() as folder:
        data = pack(Path(folder) / "packed", arguments.samples)
        fit(job(data, Path(folder) / "warm", None))
        ratios, shares = [], []
        for pair in range(arguments.pairs):
            without = fit(job(data, Path(folder) / f"{pair}-without", None)).history[0]
            for seconds in (stood_still, written):
                seconds.clear()
            with_them = fit(job(data, Path(folder) / f"{pair}-with", arguments.seconds)).history[0]
            # The last state that is written is the epoch's end, which both trainings keep.
            within = written[: len(stood_still)]
            shares.append((sum(stood_still) + sum(within)) / with_them["seconds"])
            ratios.append(with_them["throughput/samples_per_s"] / without["throughput/samples_per_s"])
            print(
                f"pair {pair + 1}: {len(within)} checkpoints in {with_them['seconds']:.1f} s; each stopped the steps for "
                f"{1000 * statistics.median(stood_still):.1f} ms and took {1000 * statistics.median(within):.1f} ms of a "
                f"processor beside them: {100 * shares[-1]:.2f} %; {ratios[-1]:.3f} times the rate without",
                flush=True,
            )
        print(
            f"a checkpoint every {arguments.seconds:g} s costs {100 * statistics.median(shares):.2f} % as counted, at most "
            f"{100 * max(shares):.2f} %; compared: {statistics.median(ratios):.3f} times the rate without "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


def timed(of: type, name: str, clock: Callable[[], float]) -> list[float]:
    """Have each call of a method measured from now on, and return where its seconds are collected."""
    method = getattr(of, name)
    seconds: list[float] = []

    def measured(*given: Any, **named: Any) -> Any:
        began = clock()
        try:
            return method(*given, **named)
        finally:
            seconds.append(clock() - began)

    setattr(of, name, measured)
    return seconds


def pack(folder: Path, samples: int) -> Path:
    """Pack digits whose training split is repeated up to so many samples."""
    prepare("digits", DATA, folder)
    card = read_card(folder)
    split = open_split(folder, "train", card)
    arrays = {name: np.array(split.arrays[name]) for name in ("images", "labels")}
    rows = np.arange(samples) % len(split)
    described = {**card.arrays, "train": write_arrays(folder, "train", arrays, rows)}
    write_card(folder, dataclasses.replace(card, arrays=described))
    return folder


def job(data: Path, scratch: Path, seconds: float | None) -> FitJob:
    scratch.mkdir()
    return FitJob(recipe=RECIPE, data_dir=data, scratch_dir=scratch, fingerprint="f", checkpoint_seconds=seconds)


if __name__ == "__main__":
    main()
