"""What the app makes of logits is what Python makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pages.node import decoded, encoded
from tests.phone import kotlin
from trainyard.export.samples import labels, softmax

pytestmark = pytest.mark.long
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("classes", "threshold"), [(5, None), (2, None), (2, 0.3)])
def test_logits_become_probabilities_and_classes(classes: int, threshold: float | None, tmp_path: Path) -> None:
    reading = {"temperature": 1.7, "threshold": threshold}
    ones = [RNG.normal(0, 3, classes).astype(np.float32) for _ in range(50)]
    maps = [RNG.normal(0, 3, (classes, 6, 7)).astype(np.float32) for _ in range(5)]
    questions = [{"about": "label", "logits": encoded(logits.tobytes()), **reading} for logits in ones]
    questions += [{"about": "mask", "logits": encoded(logits.tobytes()), "dims": logits.shape, **reading} for logits in maps]
    answers = kotlin.ask(tmp_path, questions, tmp_path)
    for logits, answer in zip(ones, answers[: len(ones)], strict=True):
        probabilities = softmax(logits, 1.7)
        assert np.abs(np.array(answer["probabilities"]) - probabilities).max() < 1e-6
        assert answer["number"] == int(labels(probabilities, threshold))
    for logits, answer in zip(maps, answers[len(ones) :], strict=True):
        probabilities = softmax(logits, 1.7)
        ids = labels(probabilities, threshold)
        assert np.array_equal(decoded(answer["ids"], np.uint8, (6, 7)), ids)
        assert np.allclose(answer["shares"], np.bincount(ids.ravel(), minlength=classes) / ids.size)
        assert abs(answer["confidence"] - np.take_along_axis(probabilities, ids[None], 0).mean()) < 1e-6
        assert np.abs(np.array(answer["means"]) - logits.mean(axis=(1, 2))).max() < 1e-6


def test_numbers_without_end_are_no_answer(tmp_path: Path) -> None:
    logits = encoded(np.array([1, np.nan], dtype=np.float32).tobytes())
    [answer] = kotlin.ask(tmp_path, [{"about": "label", "logits": logits, "temperature": 1.0, "threshold": None}], tmp_path)
    assert answer["problem"].startswith("numbers that the network finds no answer to; expected")
