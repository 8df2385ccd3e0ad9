from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trainyard.recipe import Recipe
from trainyard.studies.searcher import grid, next_values
from trainyard.studies.sweep_config import Range, SweepConfig
from trainyard.studies.trials import Trial

RATE, DROPOUT, WIDTHS = "train.learning_rate", "model.dropout", "model.widths"
OVER = {RATE: Range(log=(1e-4, 1e-1)), DROPOUT: Range(uniform=(0.0, 0.5)), WIDTHS: Range(choice=([8, 16], [16, 32]))}
FEW = {WIDTHS: Range(choice=([8, 16], [16, 32])), "train.batch_size": Range(integer=(64, 66))}


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe()


def merits(trial: Trial) -> Sequence[float]:
    return [epoch["val/accuracy"] for epoch in trial.history]


def ended(number: int, values: dict[str, Any], score: float | None, state: str = "finished") -> Trial:
    history = () if score is None else ({"val/accuracy": score, "step": 1.0, "seconds": 1.0},)
    return Trial(number=number, values=values, state=state, history=history)  # type: ignore[arg-type]


def searched(recipe: Recipe, config: SweepConfig, score: Callable[[dict[str, Any]], float], count: int) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        values = next_values(recipe, config, trials, merits)
        assert values is not None
        trials.append(ended(number, values, score(values)))
    return trials


def test_the_first_trial_is_the_recipe_as_it_is(recipe: Recipe) -> None:
    found = next_values(recipe, SweepConfig(over=OVER), [], merits)
    assert found == {RATE: 3e-3, DROPOUT: 0.2, WIDTHS: [8, 16]}


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_values_are_within_their_ranges_and_never_the_same_twice(recipe: Recipe, searcher: Any) -> None:
    trials = searched(recipe, SweepConfig(over=OVER, searcher=searcher), lambda values: -abs(values[DROPOUT] - 0.1), 15)
    assert len({repr(trial.values) for trial in trials}) == 15
    for trial in trials:
        assert all(found.holds(trial.values[key]) for key, found in OVER.items())
        # Few enough digits for a params.yaml.
        assert float(f"{trial.values[RATE]:.4g}") == trial.values[RATE]


def test_a_sweep_that_continues_asks_for_what_an_unbroken_one_would(recipe: Recipe) -> None:
    config = SweepConfig(over=OVER, trials=12)
    trials = searched(recipe, config, lambda values: -values[DROPOUT], 9)
    again = [Trial(**{name: getattr(trial, name) for name in Trial.__dataclass_fields__}) for trial in trials]
    assert next_values(recipe, config, trials, merits) == next_values(recipe, config, again, merits)
    other = SweepConfig(over=OVER, trials=12, seed=1)
    assert next_values(recipe, config, trials, merits) != next_values(recipe, other, trials, merits)


def test_what_was_found_draws_tpe_to_where_good_trials_are(recipe: Recipe) -> None:
    config = SweepConfig(over={DROPOUT: Range(uniform=(0.0, 0.5))}, trials=40)
    trials = searched(recipe, config, lambda values: -((values[DROPOUT] - 0.4) ** 2), 40)
    late = [abs(trial.values[DROPOUT] - 0.4) for trial in trials[25:]]
    assert sorted(late)[len(late) // 2] < 0.06, late
    uniform = searched(recipe, SweepConfig(over=config.over, searcher="random"), lambda values: 0.0, 40)
    far = [abs(trial.values[DROPOUT] - 0.4) for trial in uniform[25:]]
    assert sorted(far)[len(far) // 2] > 0.06, far


def test_a_trial_that_failed_or_was_ended_early_is_no_place_to_look_at(recipe: Recipe) -> None:
    config = SweepConfig(over={RATE: Range(log=(1e-4, 1.0))}, trials=30)
    trials: list[Trial] = []
    for number in range(30):
        values = next_values(recipe, config, trials, merits)
        assert values is not None
        good = values[RATE] < 1e-2
        trials.append(ended(number, values, 0.9 if good else None, "finished" if good else "failed"))
    assert sum(trial.state == "failed" for trial in trials[15:]) <= 4


@pytest.mark.parametrize("searcher", ["tpe", "random", "grid"])
def test_all_combinations_are_tried_once_and_then_there_are_no_more(recipe: Recipe, searcher: Any) -> None:
    config = SweepConfig(over=FEW, searcher=searcher, trials=20)
    assert config.most == config.combinations == 6
    trials = searched(recipe, config, lambda values: 0.5, 6)
    assert sorted(map(repr, (trial.values for trial in trials))) == sorted(map(repr, grid(config)))
    assert next_values(recipe, config, trials, merits) is None


def test_a_trial_under_way_counts_as_tried(recipe: Recipe) -> None:
    config = SweepConfig(over=FEW, searcher="grid")
    trials: list[Trial] = []
    while (values := next_values(recipe, config, trials, merits)) is not None:
        trials.append(ended(len(trials), values, None, "running"))
    assert len(trials) == 6
