"""Ask onnxruntime-web, through the code of the pages in node, about raw test inputs, and compare with torch and the Predictor.

    python benchmarks/web_parity.py cnn unet lstm --inputs 1000

For recipes that `dvc repro` has exported, and where node is there. Inputs are those of the test split, and then of the others
until there are enough; images are given as PNG files, texts and series as text. Differences of forecasts are divided by the
standard deviation of what is forecast.
"""

import argparse
import base64
import csv
import io
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainyard.data.packed import Split, open_split
from trainyard.export.bundle import read_bundle
from trainyard.export.inputs import output_scale, raw_inputs
from trainyard.export.int8_format import spread
from trainyard.models.build import in_raw_units
from trainyard.models.saved import load_model
from trainyard.serving.predictor import Predictor
from trainyard.web.folder import write_folder

ASK = Path(__file__).with_name("web_ask.mjs")
ALLOWED = 1e-4


Ask = Callable[[Path, list[dict[str, str]]], tuple[list[Any], list[float]]]
"""Takes a bundle and raw inputs; returns logits or forecasts, and the milliseconds of each."""


def report(description: str | None, ask: Ask) -> None:
    """Print a table about the recipes that the command line names, and fail where one departs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--root", type=Path, default=Path())
    arguments = parser.parse_args()
    print("| recipe | raw inputs | largest difference from torch | from onnxruntime | labels equal | median ms an input |")
    print("|---|---|---|---|---|---|")
    departed = [recipe for recipe in arguments.recipes if not compare(arguments.root, recipe, arguments.inputs, ask)]
    if departed:
        raise SystemExit(f"{', '.join(departed)}: departs by more than {ALLOWED}, or in a label")


def compare(root: Path, recipe: str, most: int, ask: Ask) -> bool:
    """Print a line about a recipe; return whether all is the same."""
    folder = root / "models" / recipe
    read_bundle(folder)
    saved = load_model(folder)
    network = in_raw_units(saved.network.eval(), saved.spec)
    chosen = choose(root / "data" / "prepared" / recipe, most)
    raws = [raw(split, index, saved.spec) for split, index in chosen]
    # Threads that wait for each other would take more than so small a network does.
    torch.set_num_threads(1)
    predictor = Predictor.load(folder, threads=1)
    found, milliseconds = ask(folder, raws)
    scale = np.asarray(output_scale(chosen[0][0]))
    apart, apart_onnx, equal = 0.0, 0.0, 0
    for (split, index), one, logits in zip(chosen, raws, found, strict=True):
        with torch.inference_mode():
            by_torch = network(*raw_inputs(split, np.array([index]))).numpy()[0]
        by_onnx = predictor.run([predictor.sample(as_python(one))])[0]
        apart = max(apart, float(np.max(np.abs(logits - by_torch) / scale)))
        apart_onnx = max(apart_onnx, float(np.max(np.abs(logits - by_onnx) / scale)))
        equal += bool(saved.spec.kind == "forecasting" or np.array_equal(logits.argmax(axis=0), by_torch.argmax(axis=0)))
    share = "no labels" if saved.spec.kind == "forecasting" else f"{equal:,} of {len(raws):,}"
    print(f"| {recipe} | {len(raws):,} | {apart:.1e} | {apart_onnx:.1e} | {share} | {np.median(milliseconds):.2f} |")
    return apart <= ALLOWED and apart_onnx <= ALLOWED and equal == len(raws)


def choose(packed: Path, most: int) -> list[tuple[Split, int]]:
    """Return samples, spread over each split."""
    chosen: list[tuple[Split, int]] = []
    for name in ("test", "val", "train"):
        split = open_split(packed, name)
        chosen += [(split, int(index)) for index in spread(len(split), min(most - len(chosen), len(split)))]
    return chosen


def raw(split: Any, index: int, spec: Any) -> dict[str, str]:
    """Return a test sample as the page is given it."""
    if spec.kind == "text_classification":
        return {"text": split.text(index)}
    inputs = raw_inputs(split, np.array([index]))[0][0].numpy()
    if spec.kind == "forecasting":
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(spec.columns)
        writer.writerows([f"{value:.9g}" for value in row] for row in inputs.tolist())
        return {"table": text.getvalue()}
    buffer = io.BytesIO()
    Image.fromarray(inputs[0] if len(inputs) == 1 else inputs.transpose(1, 2, 0)).save(buffer, "PNG")
    return {"png": base64.b64encode(buffer.getvalue()).decode()}


def as_python(one: dict[str, str]) -> Any:
    """Return the same as the Predictor is given it."""
    if "png" in one:
        return base64.b64decode(one["png"])
    return one["text"] if "text" in one else np.loadtxt(io.StringIO(one["table"]), delimiter=",", skiprows=1, ndmin=2)


def ask(bundle: Path, raws: list[dict[str, str]]) -> tuple[list[Any], list[float]]:
    """Return what the pages' code says of raw inputs, and how long each took."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, questions, out = (Path(scratch, name) for name in ("page", "questions.json", "logits.bin"))
        write_folder(bundle, folder)
        (folder / "package.json").write_text('{"type": "module"}')
        questions.write_text(json.dumps([{"about": "answer", **one} for one in raws]))
        command = ["node", "--max-old-space-size=4096", str(ASK), str(folder), str(questions), str(out)]
        answers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        logits = np.fromfile(out, dtype=np.float32)
    ends = np.cumsum([int(np.prod(answer["dims"])) for answer in answers])
    parts = np.split(logits, ends[:-1])
    return [part.reshape(one["dims"][1:]) for part, one in zip(parts, answers, strict=True)], [
        one["milliseconds"] for one in answers
    ]


if __name__ == "__main__":
    report(__doc__, ask)
