from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from trainyard.origin.compared import causes, first_of_curves, first_of_values

ORIGIN: dict[str, Any] = {
    "fingerprint": "cnn-1",
    "data": {"sha256": "a"},
    "libraries": {"torch": "2.13.0", "numpy": "2.0"},
    "machine": {"python": "3.11.2", "processor": "EPYC", "native_bf16": "true", "processors": "2"},
    "ray": {"workers": 2, "cpus_per_worker": 1},
    "attempts": [{"workers": 2}],
}


def test_equal_curves_have_no_difference_and_times_are_none() -> None:
    curve = {"train/loss": {0: 1.0, 1: 0.5}, "throughput/samples_per_s": {0: 10.0}, "val/loss": {0: math.nan}}
    other = {**curve, "throughput/samples_per_s": {0: 99.0}, "val/loss": {0: math.nan}}
    assert first_of_curves(curve, other) is None


def test_the_first_difference_is_the_earliest_epoch_and_training_before_validation() -> None:
    recorded = {"train/loss": {0: 1.0, 1: 0.5}, "val/loss": {0: 1.0, 1: 0.6}, "val/accuracy": {0: 0.5, 1: 0.6}}
    found = {"train/loss": {0: 1.0, 1: 0.5000001}, "val/loss": {0: 1.0, 1: 0.7}, "val/accuracy": {0: 0.5, 1: 0.7}}
    first = first_of_curves(recorded, found)
    assert str(first) == "train/loss of epoch 2: 0.5 recorded, 0.5000001 now"
    shorter = first_of_curves(recorded, {**recorded, "val/loss": {0: 1.0}})
    assert str(shorter) == "val/loss of epoch 2: 0.6 recorded, nothing now"


def test_values_that_both_have_are_compared_bit_by_bit() -> None:
    assert first_of_values({"test/accuracy": 0.5, "test/f1": 1.0}, {"test/accuracy": 0.5}) is None
    first = first_of_values({"test/f1": 0.1}, {"test/f1": math.nextafter(0.1, 1)})
    assert str(first) == "test/f1: 0.1 recorded, 0.10000000000000002 now"


@pytest.mark.parametrize(
    ("place", "value", "fact"),
    [
        (("data", "sha256"), "b", "data"),
        (("fingerprint",), "cnn-2", "fingerprint"),
        (("ray", "workers"), 1, "workers"),
        (("ray", "cpus_per_worker"), 2, "cpus_per_worker"),
        (("libraries", "numpy"), "2.1", "numpy"),
        (("machine", "processor"), "Xeon", "processor"),
        (("machine", "python"), "3.12.0", "python"),
    ],
)
def test_what_differs_is_named_as_the_cause(place: tuple[str, ...], value: object, fact: str) -> None:
    other = copy.deepcopy(ORIGIN)
    at = other
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert [cause.fact for cause in causes(ORIGIN, other)] == [fact]


def test_another_torch_is_the_cause_and_not_the_fingerprint_that_it_changes() -> None:
    other = copy.deepcopy(ORIGIN)
    other["libraries"]["torch"], other["fingerprint"] = "2.14.0", "cnn-9"
    assert [cause.fact for cause in causes(ORIGIN, other)] == ["torch"]


def test_equal_origins_have_no_cause() -> None:
    assert causes(ORIGIN, copy.deepcopy(ORIGIN)) == []


def test_attempts_with_other_numbers_of_workers_are_a_cause() -> None:
    elastic = {**ORIGIN, "attempts": [{"workers": 1}, {"workers": 2}]}
    (cause,) = causes(elastic, ORIGIN)
    assert str(cause).startswith("workers of the attempts: 1, 2 recorded, 2 now")
