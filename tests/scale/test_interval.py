"""Formulas for checkpoints against published values, and against failures that are drawn one by one."""

from __future__ import annotations

from random import Random

import pytest

from trainyard.scale.failures import simulate
from trainyard.scale.interval import Saving, availability, best, daly, expected_seconds, saving, young

MINUTE = 60.0
HOUR = 3600.0
# Daly's own example: 500 hours of work, 5 minutes for a checkpoint, 10 minutes for a restart.
WORK = 500 * HOUR
COSTS = Saving(stall=5 * MINUTE, restart=10 * MINUTE)
BESIDE = Saving(stall=0.5 * MINUTE, write=4.5 * MINUTE, restart=10 * MINUTE)
RUNS = 100
TOLERANCE = 0.01
"""Of the simulated time; 100 runs of 500 hours leave about a tenth of it to chance."""


def simulated(interval: float, costs: Saving, between_failures: float) -> float:
    return sum(simulate(WORK, interval, costs, between_failures, Random(run)) for run in range(RUNS)) / RUNS


@pytest.mark.parametrize(("between_failures", "published"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_dalys_estimate_is_what_the_paper_prints(between_failures: float, published: float) -> None:
    assert daly(5, between_failures) == pytest.approx(published, abs=0.5 if published > 10 else 0.05)
    assert best(5, between_failures) == pytest.approx(published, abs=0.5 if published > 10 else 0.1)


def test_youngs_estimate_is_near_the_best_interval_where_checkpoints_are_cheap() -> None:
    assert young(1, 10_000) == pytest.approx(best(1, 10_000), rel=0.01)
    assert young(5, 15) > 1.3 * best(5, 15)


@pytest.mark.parametrize("between_failures", [24 * HOUR, 6 * HOUR, 15 * MINUTE])
def test_no_interval_beside_the_best_one_is_expected_to_take_less_time(between_failures: float) -> None:
    chosen = best(COSTS.stall, between_failures)
    least = expected_seconds(WORK, chosen, COSTS, between_failures)
    for factor in (0.5, 0.98, 1.02, 2.0):
        assert least < expected_seconds(WORK, factor * chosen, COSTS, between_failures)


def test_the_best_interval_is_found_where_a_checkpoint_takes_longer_than_the_time_between_failures() -> None:
    assert 0 < best(20, 10) < 10


@pytest.mark.parametrize("costs", [COSTS, BESIDE], ids=["waiting", "beside"])
@pytest.mark.parametrize("between_failures", [24 * HOUR, 6 * HOUR, HOUR])
def test_simulated_failures_cost_what_the_formula_says(costs: Saving, between_failures: float) -> None:
    interval = max(best(costs.stall, between_failures), costs.write)
    found = simulated(interval, costs, between_failures)
    assert found == pytest.approx(expected_seconds(WORK, interval, costs, between_failures), rel=TOLERANCE)


def test_no_simulated_interval_does_better_than_the_one_of_the_formula() -> None:
    chosen = best(COSTS.stall, 6 * HOUR)
    least = simulated(chosen, COSTS, 6 * HOUR)
    for factor in (0.4, 0.7, 1.4, 2.5):
        assert least < simulated(factor * chosen, COSTS, 6 * HOUR)


def test_without_failures_only_the_stalls_are_added() -> None:
    never = 1e15
    assert simulate(HOUR, MINUTE, Saving(stall=1.0, restart=MINUTE), never, Random(0)) == pytest.approx(HOUR + 60)
    beside = simulate(HOUR, MINUTE, Saving(stall=1.0, write=30.0, restart=MINUTE), never, Random(0))
    assert beside == pytest.approx(HOUR + 60 + 30)  # the last one is waited for


def test_writing_beside_the_training_is_worth_more_than_it_loses() -> None:
    waiting = availability(best(COSTS.stall, 6 * HOUR), COSTS, 6 * HOUR)
    beside = availability(best(BESIDE.stall, 6 * HOUR), BESIDE, 6 * HOUR)
    assert beside > waiting + 0.05


def test_a_write_that_is_waited_for_stalls_and_one_beside_does_not() -> None:
    assert saving(10e9, 5e9, 1e9, 60, beside=False) == Saving(stall=12.0, write=0.0, restart=60)
    assert saving(10e9, 5e9, 1e9, 60, beside=True) == Saving(stall=2.0, write=10.0, restart=60)
