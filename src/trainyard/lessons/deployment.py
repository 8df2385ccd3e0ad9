"""From a trained network to a file that other runtimes answer with (ONNX; Sculley et al. 2015 on all around a model)."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from trainyard.evaluation.figures import BLUE, GREY, ORANGE, save
from trainyard.export.export import export
from trainyard.lessons.catalogue import Recipes, Table
from trainyard.lessons.loop import build, train_whole, whole
from trainyard.lessons.packs import packed
from trainyard.lessons.style import STYLE
from trainyard.models.saved import SavedModel, save_model
from trainyard.models.spec import InputSpec
from trainyard.serving.answers import Label
from trainyard.serving.predictor import Predictor

CLAIM = (
    "A trained network is a graph of a few operations and their weights. Written to a file with its preprocessing inside, "
    "it gives the same answers to the same raw images in another runtime, without the framework that trained it: on a "
    "server, in a browser, on a phone."
)
CHANGE = (
    "--set model.widths=[64,128]: a file of sixteen times the size; --set export.max_logit_difference=1e-9: export refuses it."
)
FRAMEWORKS = ("torch", "pytorch_lightning", "ray", "mlflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The trained network, and its file."""

    difference: float
    """Largest one of any logit, over all test images."""
    disagreements: int
    """Test images that get another class, given as PNG files."""
    images: int
    accuracy: float
    """Of the file's answers."""
    kilobytes: float
    weights_kilobytes: float
    """Of the weights alone, as safetensors."""
    frameworks: int
    """Of FRAMEWORKS, that a process has imported once it has answered."""
    logits: tuple[tuple[float, float], ...]
    """Pairs to draw: by torch, and by the file."""


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train, export, and ask the file."""
    recipe = recipes["digits"]
    data = packed(recipe, root)
    network = build(recipe, data.card)
    train_whole(network, recipe, data.train)
    folder, spec = root / ".trainyard" / "lessons" / "deployment", InputSpec.from_card(data.card)
    weights, model = folder / "model.safetensors", folder / "model.onnx"
    save_model(weights, folder / "recipe.json", network.state_dict(), recipe, spec, "lesson")
    saved = SavedModel(network=network.eval(), recipe=recipe, spec=spec, fingerprint="lesson")
    export(saved, data.folder, folder)
    batch = whole(data.test)
    with torch.no_grad():
        expected = network(*batch.inputs).numpy()
    files = [_png(image) for image in batch.inputs[0][:, 0].numpy()]
    answers = [answer for answer in Predictor.load(model).predict(files) if isinstance(answer, Label)]
    logits, classes = np.stack([answer.logits for answer in answers]), np.array([answer.number for answer in answers])
    return Finding(
        difference=float(np.abs(logits - expected).max()),
        disagreements=int((classes != expected.argmax(axis=1)).sum()),
        images=len(files),
        accuracy=float((classes == batch.targets.numpy()).mean()),
        kilobytes=model.stat().st_size / 1000,
        weights_kilobytes=weights.stat().st_size / 1000,
        frameworks=_imported(model, files[0], folder / "one.png"),
        logits=tuple((float(ours), float(theirs)) for ours, theirs in zip(expected[:60].flat, logits[:60].flat, strict=True)),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows: dict[str, tuple[float, ...]] = {
        "test images, as PNG files": (float(finding.images),),
        "given another class": (float(finding.disagreements),),
        "largest difference of a logit": (finding.difference,),
        "accuracy of the file": (finding.accuracy,),
        "kilobytes of the file": (finding.kilobytes,),
        "kilobytes of the weights": (finding.weights_kilobytes,),
        "training frameworks loaded to answer": (float(finding.frameworks),),
    }
    return Table(headers=("measured",), rows=rows)


def holds(finding: Finding) -> bool:
    """Each raw image gets the same class and the same logits, from a process that knows no training framework."""
    return not finding.disagreements and finding.difference < 1e-4 and not finding.frameworks and finding.accuracy > 0.8


def draw(finding: Finding, path: Path) -> Path:
    """Draw logits against logits, and what the file is made of."""
    pairs = np.array(finding.logits)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        logits, size = figure.subplots(1, 2)
        logits.axline((0, 0), slope=1, color=GREY, linewidth=1)
        logits.plot(pairs[:, 0], pairs[:, 1], "o", color=BLUE, markersize=2.5)
        logits.set_title(f"600 logits, at most {finding.difference:.0e} apart")
        logits.set_xlabel("by torch, from the training's arrays")
        logits.set_ylabel("by onnxruntime, from PNG files")
        parts = (finding.weights_kilobytes, finding.kilobytes)
        size.barh(("weights\n(safetensors)", "model\n(ONNX)"), parts, color=(GREY, ORANGE), height=0.6)
        for row, value in enumerate(parts):
            size.text(value, row, f" {value:.0f} kB", va="center")
        size.set_xlim(0, 1.2 * max(parts))
        size.invert_yaxis()
        size.set_title("What has to be shipped")
        return save(figure, path)


def _png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def _imported(model: Path, content: bytes, image: Path) -> int:
    """Return how many training frameworks a process of its own has loaded once it has answered."""
    image.write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from trainyard.serving.predictor import Predictor; "
        "Predictor.load(Path(sys.argv[1])).predict([Path(sys.argv[2]).read_bytes()]); "
        f"print(sum(name in sys.modules for name in {FRAMEWORKS!r}))"
    )
    command = [sys.executable, "-c", code, str(model), str(image)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
