"""onnxruntime-web says of raw inputs what the bundle says, and what the Predictor says: from the file to the logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pages.node import ask, encoded
from tests.pages.pngs import write_png
from trainyard.serving.predictor import Predictor

ALLOWED = 1e-4


def question(path: Path) -> dict[str, Any]:
    """Return what is asked about a file."""
    if path.suffix == ".png":
        return {"about": "answer", "png": encoded(path.read_bytes())}
    return {"about": "answer", "text" if path.suffix == ".txt" else "table": path.read_text(encoding="utf-8")}


def answers(folder: Path, questions: list[dict[str, Any]], scratch: Path) -> list[NDArray[np.float32]]:
    """Return what the graph gives for each question."""
    found, logits = ask(folder, questions, scratch)
    ends = np.cumsum([int(np.prod(answer["dims"])) for answer in found])
    parts = np.split(logits, ends[:-1])
    return [part.reshape(answer["dims"][1:]) for part, answer in zip(parts, found, strict=True)]


@pytest.mark.parametrize("name", ["digits", "photos", "cells", "reviews", "load"])
def test_samples_get_the_logits_that_the_bundle_expects(name: str, pages: Path, tmp_path: Path) -> None:
    folder = pages / name
    about = json.loads((folder / "model.json").read_bytes())
    found = answers(folder, [question(folder / sample["file"]) for sample in about["samples"]], tmp_path)
    for sample, logits in zip(about["samples"], found, strict=True):
        if about["kind"] == "segmentation":
            assert np.abs(logits.mean(axis=(1, 2)) - sample["mean_logits"]).max() <= ALLOWED
        elif about["kind"] == "forecasting":
            said = np.array(sample["forecast"])
            assert (np.abs(logits - said) / np.abs(said).max(axis=0)).max() <= ALLOWED
        else:
            assert np.abs(logits - sample["logits"]).max() <= ALLOWED
            assert about["classes"][int(logits.argmax())] == sample["label"]


def test_images_of_other_sizes_and_kinds_get_the_logits_of_the_predictor(
    pages: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    sides = ((64, 48), (9, 31), (33, 17), (20, 28))
    files = [
        write_png(rng.integers(0, 256, (*side, channels)), 8, {1: 0, 3: 2, 4: 6}[channels])
        for side in sides
        for channels in (1, 3, 4)
    ]
    for name in ("cells", "photos"):
        predictor = Predictor.load(bundles[name], threads=1)
        found = answers(pages / name, [{"about": "answer", "png": encoded(file)} for file in files], tmp_path)
        for file, logits in zip(files, found, strict=True):
            expected = predictor.run([predictor.sample(file)])[0]
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() <= ALLOWED
            assert np.array_equal(logits.argmax(axis=0), expected.argmax(axis=0))


def test_texts_of_any_length_get_the_logits_of_the_predictor(pages: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(bundles["reviews"], threads=1)
    texts = ["fine", "GREAT, warm and naïve 坏!", "cold " * 50, "?", "[PAD] [UNK]", "late\n\tbroken\u00a0dull"]
    found = answers(pages / "reviews", [{"about": "answer", "text": text} for text in texts], tmp_path)
    expected = [predictor.run([predictor.sample(text)])[0] for text in texts]
    assert np.abs(np.array(found) - np.array(expected)).max() <= ALLOWED
    refused, _ = ask(pages / "reviews", [{"about": "answer", "text": text} for text in (" \n\u200b", "a\ud800b")], tmp_path)
    assert [answer["problem"].partition(";")[0] for answer in refused] == [
        "a text with nothing in it to read",
        "half of a character",
    ]
