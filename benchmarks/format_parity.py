"""Ask every exported format about raw inputs, in batches of several sizes, and compare each answer with torch's.

    python benchmarks/format_parity.py cnn unet lstm --inputs 1000

For recipes that `dvc repro` has exported. Inputs are those of the test split, and then of the others until there are enough.
Images are given as PNG files, texts and series as text; what the Predictor makes of them is what the formats are asked, torch
is asked about the packed samples one by one. Differences of forecasts are divided by the standard deviation of what is
forecast; of masks, labels are pixels. Fails where a format other than onnx_int8 departs by more than 1e-4, or in a label; what
8 bits cost is measured by stage `export`.
"""

import argparse
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.web_parity import ALLOWED, as_python, choose, raw
from torch.nn.utils.rnn import pad_sequence

from trainyard.export.bundle import FORMAT_FILES, read_bundle
from trainyard.export.export import OPENERS
from trainyard.export.inputs import Inputs, output_scale, raw_inputs
from trainyard.export.opened import OnnxFile
from trainyard.models.build import in_raw_units
from trainyard.models.saved import load_model
from trainyard.serving.predictor import Predictor
from trainyard.serving.raw_inputs import Sample

BATCHES = (1, 2, 7, 32)
FIXED = {"executorch": (1,)}
"""Formats that take no other sizes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--root", type=Path, default=Path())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| recipe | format | raw inputs | largest difference from torch | labels equal |")
    print("|---|---|---|---|---|")
    departed = [recipe for recipe in arguments.recipes if not compare(arguments.root, recipe, arguments.inputs)]
    if departed:
        raise SystemExit(f"{', '.join(departed)}: a format departs by more than {ALLOWED}, or in a label")


def compare(root: Path, recipe: str, most: int) -> bool:
    """Print a line for each format of a recipe; return whether all in 32 bits say the same as torch."""
    folder = root / "models" / recipe
    formats = [form for form in FORMAT_FILES if form in read_bundle(folder)["formats"]]
    saved = load_model(folder)
    network = in_raw_units(saved.network.eval(), saved.spec)
    chosen = choose(root / "data" / "prepared" / recipe, most)
    scale = output_scale(chosen[0][0])
    predictor = Predictor.load(folder, threads=1)
    samples = [predictor.sample(as_python(raw(split, index, saved.spec))) for split, index in chosen]
    with torch.inference_mode():
        expected = [network(*raw_inputs(split, np.array([index]))).numpy()[0] for split, index in chosen]
    same = True
    for form in formats:
        path = folder / FORMAT_FILES[form]
        opened = OnnxFile(path, form, threads=1) if path.suffix == ".onnx" else OPENERS[form](path)
        found = [one for part in parts(samples, FIXED.get(form, BATCHES)) for one in opened.answer(part)]
        apart = max(float(np.max(np.abs(ours - theirs) / scale)) for ours, theirs in zip(found, expected, strict=True))
        labels, equal = agreement(found, expected) if saved.spec.kind != "forecasting" else (0, 0)
        share = f"{equal:,} of {labels:,}" if labels else "no labels"
        print(f"| {recipe} | {form} | {len(found):,} | {apart:.1e} | {share} |", flush=True)
        same &= form == "onnx_int8" or (apart <= ALLOWED and equal == labels)
    return same


def parts(samples: list[Sample], sizes: tuple[int, ...]) -> list[Inputs]:
    """Return samples as inputs of formats, in batches of sizes that take turns."""
    found, first, turns = [], 0, cycle(sizes)
    while first < len(samples):
        size = next(turns)
        arrays = [torch.tensor(sample.array) for sample in samples[first : first + size]]
        first += size
        if arrays[0].ndim == 3:
            found.append((torch.stack(arrays),))
        else:
            found.append((pad_sequence(arrays, batch_first=True), torch.tensor([len(array) for array in arrays])))
    return found


def agreement(found: list[Any], expected: list[Any]) -> tuple[int, int]:
    """Return how many labels there are, and how many are the same."""
    same = [ours.argmax(axis=0) == theirs.argmax(axis=0) for ours, theirs in zip(found, expected, strict=True)]
    return sum(np.size(one) for one in same), sum(int(np.sum(one)) for one in same)


if __name__ == "__main__":
    main()
