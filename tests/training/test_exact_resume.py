"""A training that is killed and started again ends as one that was never interrupted, in every bit.

Compared are weights, optimizer, schedule, metrics of every epoch, loss and samples of every step on every worker, and
what is on record, which has each step once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.training.gang import Gang, assert_same_end, final_state, newest_facts

from trainyard.training.job import FitJob

pytestmark = pytest.mark.faults
Build = Callable[..., FitJob]


def case(family: str, place: str, workers: int, quick: bool = False) -> Any:
    return pytest.param(family, place, workers, marks=() if quick else pytest.mark.long, id=f"{family}-{place}-{workers}")


@pytest.mark.parametrize(
    ("family", "place", "workers"),
    [
        case("cnn", "end", 1),
        case("cnn", "end", 2),
        case("cnn", "within", 1, quick=True),
        case("cnn", "within", 2, quick=True),
        case("unet", "end", 1),
        case("unet", "end", 2),
        case("unet", "within", 1),
        # Running statistics of the averaged network, too, are each worker's own until validation.
        case("unet", "within", 2, quick=True),
        case("lstm", "end", 1, quick=True),
        case("lstm", "end", 2),
        case("lstm", "within", 1),
        case("lstm", "within", 2),
        # Three add up gradients in an order that two do not have.
        case("cnn", "within", 3),
    ],
)
def test_a_killed_training_ends_as_one_that_was_not(build: Build, family: str, place: str, workers: int) -> None:
    every = None if place == "end" else 3
    whole, killed = (Gang(build(family, name, every), workers) for name in ("whole", "killed"))
    first = whole.attempt()
    assert first.finished, first.said
    steps = int(final_state(whole.job)["history"][0]["step"])
    # In the second epoch; five steps into it, two steps after the checkpoint within it.
    at = steps + 5
    end = killed.attempt(f"kill:rank{workers - 1}:step{at}:phase=backward:settled")
    assert end.exit_codes[-1] == -signal.SIGKILL, end.said
    left = newest_facts(killed)
    assert left.step < at
    assert left.ended is (place == "end"), left
    end = killed.attempt()
    assert end.finished, end.said
    assert_same_end(whole, killed)
