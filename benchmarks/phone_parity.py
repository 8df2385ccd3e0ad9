"""Ask ExecuTorch's runtime about raw test inputs, through the code of the Android app on a JVM, and compare with torch.

    python benchmarks/phone_parity.py cnn unet lstm --inputs 1000

For recipes that `dvc repro` has exported with `executorch` among their formats, and where kotlinc, java and the package
executorch are. What lies between a file and the program's inputs is the app's own; the program is the very file of the bundle,
here on ExecuTorch's Python runtime. Differences of forecasts are divided by the standard deviation of what is forecast.
"""

import base64
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.web_parity import report  # noqa: E402
from tests.phone import kotlin  # noqa: E402

from trainyard.export.executorch_format import ExecutorchFile  # noqa: E402
from trainyard.phone.assets import MODEL, write_assets  # noqa: E402

MANIFEST = Path("app", "src", "main", "AndroidManifest.xml")


def ask(bundle: Path, raws: list[dict[str, str]]) -> tuple[list[Any], list[float]]:
    """Return what the program says of raw inputs, and how long each took it."""
    with tempfile.TemporaryDirectory() as scratch:
        app = Path(scratch, "android")
        (app / MANIFEST).parent.mkdir(parents=True)
        (app / MANIFEST).touch()
        folder, _ = write_assets(bundle, app)
        fed = kotlin.ask(folder, [{"about": "fed", **one} for one in raws], Path(scratch))
        program = ExecutorchFile(folder / MODEL)
    logits, milliseconds = [], []
    for answer in fed:
        inputs = tuple(_tensor(**one) for one in answer["inputs"])
        began = time.perf_counter()
        logits.append(program.answer(inputs)[0])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return logits, milliseconds


def _tensor(type: str, shape: list[int], data: str) -> torch.Tensor:  # noqa: A002
    """Return an array that the app's code made."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(data), dtype=type).reshape(shape).copy())


if __name__ == "__main__":
    report(__doc__, ask)
