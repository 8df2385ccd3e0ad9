"""Time each exported format beside eager torch, in rounds, with one thread each.

    python benchmarks/export_speed.py cnn unet lstm

For recipes that `dvc repro` has exported. What is counted is the processor's time of the thread that computes, which other work
on the machine hardly changes. In each round every format is timed once, the order turned by one each time; the table has the
median over the rounds of a call's mean, and of its ratio to eager torch in the same round.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from trainyard.data.packed import open_split
from trainyard.export.bundle import FORMAT_FILES, read_bundle
from trainyard.export.export import OPENERS
from trainyard.export.inputs import raw_inputs
from trainyard.export.opened import OnnxFile
from trainyard.models.build import in_raw_units
from trainyard.models.saved import load_model

CALLS = {1: 40, 32: 8}
"""Of each format in a round, by batch size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--root", type=Path, default=Path())
    arguments = parser.parse_args()
    print("| recipe | format | batch 1, ms | times as fast as torch | batch 32, ms | times as fast as torch |")
    print("|---|---|---|---|---|---|")
    torch.set_num_threads(1)
    for recipe in arguments.recipes:
        measured = {batch: measure(arguments.root, recipe, batch, arguments.rounds) for batch in (1, 32)}
        for form in measured[1]:
            cells = []
            for batch in (1, 32):
                own, reference = np.array(measured[batch][form]), np.array(measured[batch]["torch"])
                cells += [f"{np.median(own) * 1000:.3f}", f"{np.median(reference / own):.2f}"]
            print(f"| {recipe} | {form} | {' | '.join(cells)} |")


def measure(root: Path, recipe: str, batch: int, rounds: int) -> dict[str, list[float]]:
    """Return by format the seconds of a call in each round."""
    folder = root / "models" / recipe
    formats = [form for form in FORMAT_FILES if form in read_bundle(folder)["formats"]]
    saved = load_model(folder)
    network = in_raw_units(saved.network.eval(), saved.spec)
    split = open_split(root / "data" / "prepared" / recipe, "test")
    inputs = raw_inputs(split, np.arange(min(batch, len(split))))

    def in_torch() -> None:
        with torch.inference_mode():
            network(*inputs)

    calls = {"torch": in_torch}
    for form in formats:
        path = folder / FORMAT_FILES[form]
        opened = OnnxFile(path, form, threads=1) if path.suffix == ".onnx" else OPENERS[form](path)
        calls[form] = lambda opened=opened: opened.answer(inputs)
    found: dict[str, list[float]] = {form: [] for form in calls}
    names = list(calls)
    for number in range(rounds):
        for form in names[number % len(names) :] + names[: number % len(names)]:
            for _ in range(2):
                calls[form]()
            began = time.thread_time()
            for _ in range(CALLS[batch]):
                calls[form]()
            found[form].append((time.thread_time() - began) / CALLS[batch])
    return found


if __name__ == "__main__":
    main()
