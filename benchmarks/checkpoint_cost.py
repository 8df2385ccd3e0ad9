"""What checkpoints within an epoch cost: samples a second with one every so many seconds, against none, one after the other.

    python benchmarks/checkpoint_cost.py --seconds 10 --pairs 5

One epoch of many digits in one process; the medians of both are compared. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import numpy as np
from small_digits import DATA, recipe

from trainyard.data.packed import open_split, read_card, write_arrays, write_card
from trainyard.data.prepare import prepare
from trainyard.training.fit import fit
from trainyard.training.job import FitJob

RECIPE = recipe({"widths": (64, 128, 256), "convolutions": 2, "normalisation": "batch"}, epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="between two checkpoints")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200_000, help="of the epoch; it should last a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = pack(Path(folder) / "packed", arguments.samples)
        rates: dict[float | None, list[float]] = {None: [], arguments.seconds: []}
        fit(job(data, Path(folder) / "warm", None))
        for pair in range(arguments.pairs):
            for seconds, found in rates.items():
                values = fit(job(data, Path(folder) / f"{pair}-{seconds}", seconds)).history[0]
                found.append(values["throughput/samples_per_s"])
                print(f"pair {pair + 1}, every {seconds} s: {found[-1]:,.0f} samples/s, epoch of {values['seconds']:.1f} s")
        without, with_them = (statistics.median(found) for found in rates.values())
        print(f"a checkpoint every {arguments.seconds:g} s costs {100 * (1 - with_them / without):.2f} % (medians)")


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
