"""A few test samples as a user has them, and what the model says of them, so that it can be told to be the same elsewhere.

samples/0.png           an image; 0.mask.png the classes of its pixels
samples/0.txt           a text, in UTF-8
samples/0.csv           the context of a series, in its columns' own units
samples/expected.json   label, probabilities and logits; or the forecast
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.errors import IntegrityError
from trainyard.export.config import ExportConfig
from trainyard.export.inputs import Inputs, answer_scale, raw_inputs
from trainyard.export.int8_format import spread
from trainyard.export.opened import Opened
from trainyard.models.spec import InputSpec

SAMPLES = 4
FORMAT = 1


def write_samples(
    folder: Path, split: Split, network: nn.Module, spec: InputSpec, reading: Mapping[str, Any], tokenizer: str | None
) -> None:
    """Write test samples, spread over the split, with what the torch network says of them.

    Args:
        folder: for the files.
        split: the test split.
        network: takes raw inputs, in evaluation mode.
        spec: of the data.
        reading: temperature and threshold, by which logits become probabilities and labels.
        tokenizer: of texts, as the library tokenizers writes it.

    Raises:
        IntegrityError: a sample that is read back from its file is not what the network was asked about.
    """
    folder.mkdir(parents=True)
    entries = []
    for number, index in enumerate(spread(len(split), SAMPLES)):
        one = np.array([index])
        inputs = raw_inputs(split, one)
        with torch.inference_mode():
            answer = network(*inputs).numpy()[0]
        file = _write(folder, number, split, int(index), inputs, spec)
        _check_read_back(folder / file, split, inputs, spec, tokenizer)
        truth = gather(split, one).targets.numpy()[0]
        said = _said(folder, number, split, spec, answer, truth, reading)
        entries.append({"file": file, "test_sample": int(index), **said})
    values = {"format": FORMAT, "kind": spec.kind, **reading, "samples": entries}
    (folder / "expected.json").write_text(f"{json.dumps(values, indent=2, ensure_ascii=False)}\n", encoding="utf-8")


def check_samples(
    folder: Path, opened: Opened, split: Split, config: ExportConfig, spec: InputSpec, tokenizer: str | None
) -> None:
    """Ask an exported file about the samples as they are in their files, from raw bytes to logits.

    Raises:
        IntegrityError: it says something else than expected.json.
    """
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    for entry in expected["samples"]:
        inputs = read_sample(folder / entry["file"], spec, tokenizer)
        answer = opened.answer(inputs)
        found, scale = answer[0], answer_scale(split, answer)
        if spec.kind == "segmentation":
            same = found.mean(axis=(1, 2)), np.array(entry["mean_logits"])
        else:
            same = found, np.array(entry["forecast" if spec.kind == "forecasting" else "logits"])
        difference = float(np.max(np.abs(same[0] - same[1]) / scale))
        if not difference <= config.max_logit_difference:
            raise IntegrityError(
                f"{opened.path}: says of {entry['file']} (test sample {entry['test_sample']}), read from its file, something "
                f"else than torch, by {difference:.2e} in {opened.form}; not exported: leave {opened.form} out of "
                "export.formats"
            )


def read_sample(path: Path, spec: InputSpec, tokenizer: str | None) -> Inputs:
    """Return what the graph takes of a sample's file, a batch of one."""
    if path.suffix == ".png":
        return (torch.from_numpy(_read_png(path)[None]),)
    if path.suffix == ".txt":
        from tokenizers import Tokenizer

        from trainyard.data.text import encode

        if tokenizer is None:
            raise IntegrityError(f"{path}: there is no tokenizer to read it with; prepare the data again")
        tokens, _ = encode(Tokenizer.from_str(tokenizer), [path.read_bytes().decode()], spec.max_length)
        return torch.from_numpy(tokens.astype(np.int64)[None]), torch.tensor([len(tokens)])
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = np.array([[float(row[name]) for name in spec.columns] for row in rows], dtype=np.float32)
    return torch.from_numpy(values[None]), torch.tensor([len(values)])


def _write(folder: Path, number: int, split: Split, index: int, inputs: Inputs, spec: InputSpec) -> str:
    """Write what is shown to the model, and return the file's name."""
    match spec.kind:
        case "image_classification" | "segmentation":
            name = f"{number}.png"
            _write_png(folder / name, inputs[0][0].numpy())
        case "text_classification":
            name = f"{number}.txt"
            (folder / name).write_bytes(split.text(index).encode())
        case "forecasting":
            name = f"{number}.csv"
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            writer.writerow(spec.columns)
            # Nine digits give a float32 back to the bit.
            writer.writerows([f"{value:.9g}" for value in row] for row in inputs[0][0].tolist())
            (folder / name).write_bytes(text.getvalue().encode())
    return name


def _check_read_back(path: Path, split: Split, inputs: Inputs, spec: InputSpec, tokenizer: str | None) -> None:
    """Refuse a sample whose file gives something else than what the network was asked about."""
    found = read_sample(path, spec, tokenizer)
    if any(one.shape != other.shape or not torch.equal(one, other) for one, other in zip(found, inputs, strict=True)):
        raise IntegrityError(
            f"{path.name}: read back from its file, this test sample is not what the packed data hold of it; prepare the data "
            "again"
        )


def _said(
    folder: Path,
    number: int,
    split: Split,
    spec: InputSpec,
    answer: NDArray[np.float32],
    truth: NDArray[Any],
    reading: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the model says of a sample, and what is true."""
    if spec.kind == "forecasting":
        targets = len(spec.classes)
        went_on = truth * split.arrays["std"][:targets] + split.arrays["mean"][:targets]
        return {"targets": list(spec.classes), "forecast": answer.tolist(), "truth": np.round(went_on, 6).tolist()}
    probabilities = softmax(answer, reading["temperature"])
    numbers = labels(probabilities, reading["threshold"])
    if spec.kind == "segmentation":
        mask = f"{number}.mask.png"
        _write_png(folder / mask, numbers.astype(np.uint8)[None])
        shares = np.bincount(numbers.ravel(), minlength=len(spec.classes)) / numbers.size
        return {
            "mask": mask,
            "shares": dict(zip(spec.classes, np.round(shares, 6).tolist(), strict=True)),
            "mean_logits": answer.mean(axis=(1, 2)).tolist(),
            "pixels_right": round(float((numbers == truth).mean()), 6),
        }
    label = int(numbers)
    return {
        "label": spec.classes[label],
        "probability": float(probabilities[label]),
        "probabilities": dict(zip(spec.classes, np.round(probabilities.astype(np.float64), 6).tolist(), strict=True)),
        "logits": answer.tolist(),
        "truth": spec.classes[int(truth)],
    }


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities (K, ...) of logits (K, ...), which are divided by the temperature first."""
    powers = np.exp((logits - logits.max(axis=0)) / np.float32(temperature))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=0)
    return probabilities


def labels(probabilities: NDArray[np.float32], threshold: float | None) -> NDArray[np.int64]:
    """Return classes (...) of probabilities (K, ...): the likeliest, or the second of two from a threshold on."""
    if threshold is not None:
        return np.asarray(probabilities[1] >= threshold).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=0))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path, format="PNG")


def _read_png(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as image:
        pixels = np.array(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
