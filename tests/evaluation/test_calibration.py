from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.evaluation.test_figures import is_drawn
from trainyard.evaluation.calibration import Reliability, fit_temperature, measure, temper
from trainyard.evaluation.calibration_figure import reliability_diagram
from trainyard.evaluation.predictions import mask_predictions


def drawn(samples: int, sharpness: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of logits that are `sharpness` times those by which the labels were drawn."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (samples, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(samples)[:, None] < true.cumsum(axis=1)).argmax(axis=1)
    return temper(true, 1 / sharpness), labels


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    probabilities, labels = drawn(3000, 2.0)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(labels)
    theirs = multiclass_calibration_error(*tensors, num_classes=4, n_bins=15, norm="l1")
    assert measure(probabilities, labels).reliability.error == pytest.approx(theirs.item(), abs=1e-6)


def test_the_brier_score_is_that_of_scikit_learn() -> None:
    probabilities, labels = drawn(500, 1.0)
    theirs = brier_score_loss(labels, probabilities, labels=np.arange(4), scale_by_half=False)
    assert measure(probabilities, labels).briers.mean() == pytest.approx(theirs)


def test_a_confidence_at_the_edge_of_two_bins_counts_in_the_lower_one() -> None:
    # Naeini's bins are (0, 1/15], ...; 0.6 is 9/15 and 1 belongs to the last.
    found = measure(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([0, 1])).reliability
    assert found.count.nonzero()[0].tolist() == [8, 14]
    assert found.error == pytest.approx((0.4 + 1.0) / 2)


def test_probabilities_that_labels_were_drawn_by_are_calibrated_and_sharper_ones_are_not() -> None:
    assert measure(*drawn(20_000, 1.0)).reliability.error < 0.02
    assert measure(*drawn(20_000, 3.0)).reliability.error > 0.1


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_takes_back_what_sharpened_the_logits(sharpness: float) -> None:
    probabilities, labels = drawn(20_000, sharpness)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    cooled = temper(probabilities, temperature)
    assert measure(cooled, labels).reliability.error < 0.015
    assert measure(cooled, labels).losses.mean() <= measure(probabilities, labels).losses.mean()
    np.testing.assert_array_equal(cooled.argmax(axis=1), probabilities.argmax(axis=1))


def test_tempered_probabilities_are_those_of_divided_logits() -> None:
    logits = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = (logits / 2.5).softmax(dim=1).numpy()
    np.testing.assert_allclose(temper(logits.softmax(dim=1).numpy(), 2.5), expected, rtol=1e-4)


def test_pixels_are_measured_the_same_in_one_batch_and_in_several() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(3), (6, 5, 5)).transpose(0, 3, 1, 2)
    masks = rng.integers(0, 3, (6, 5, 5))
    whole, parts = (mask_predictions(np.array_split(probabilities, n), masks) for n in (1, 4))
    flat = measure(probabilities.transpose(0, 2, 3, 1).reshape(-1, 3), masks.ravel())
    for found in (whole, parts):
        assert found.reliability.error == pytest.approx(flat.reliability.error)
        np.testing.assert_allclose(found.reliability.count, flat.reliability.count)
        assert found.counts.briers is not None
        assert found.counts.briers.mean() == pytest.approx(flat.briers.mean())


@pytest.mark.parametrize("fitted", [False, True])
def test_the_reliability_diagram_is_drawn(tmp_path: Path, fitted: bool) -> None:
    probabilities, labels = drawn(400, 3.0)
    after: Reliability | None = measure(temper(probabilities, 3.0), labels).reliability if fitted else None
    path = tmp_path / "calibration.png"
    assert is_drawn(reliability_diagram(measure(probabilities, labels).reliability, after, 3.0, "texts", path))
