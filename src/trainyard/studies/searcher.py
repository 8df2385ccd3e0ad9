"""Which values to try next: a function of the sweep and of its trials so far, so a continued sweep asks as an unbroken one.

Knows optuna, and neither Ray nor files.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainyard.studies.sweep_config import Range, SweepConfig, own_values
from trainyard.studies.trials import Trial

if TYPE_CHECKING:
    import optuna

    from trainyard.recipe import Recipe

Score = Callable[[Trial], Sequence[float]]
"""The merit of a trial after each epoch: higher is better."""
TRIES = 20
"""So often another combination is drawn where all of them are known to have been tried, before the first free one is taken."""
DIGITS = 4
"""Of the numbers that are drawn: the recipe shows the very value that was trained with."""


def next_values(recipe: Recipe, config: SweepConfig, trials: Sequence[Trial], score: Score) -> dict[str, Any] | None:
    """Return the values of the next trial, which no trial has; None where all combinations were tried.

    The first trial is the recipe as it is, so that the best one is no worse by the validation split.
    """
    tried = {_identity(trial.values) for trial in trials}
    own = own_values(recipe, config)
    if own is not None and not trials:
        return own
    if config.combinations is not None and len(tried) >= config.combinations:
        return None
    if config.searcher != "grid":
        for turn in range(TRIES):
            found = _drawn(config, trials, score, turn)
            if _identity(found) not in tried:
                return found
        if config.combinations is None:
            return found
    return next((found for found in grid(config) if _identity(found) not in tried), None)


def grid(config: SweepConfig) -> list[dict[str, Any]]:
    """Return all combinations; the last key changes first."""
    values = [found.values or () for found in config.over.values()]
    return [dict(zip(config.over, chosen, strict=True)) for chosen in itertools.product(*values)]


def study_of(config: SweepConfig, trials: Sequence[Trial], score: Score, sampler: Any = None) -> optuna.Study:
    """Return optuna's view of the trials: merits are maximised."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {key: _distribution(found) for key, found in config.over.items()}
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = optuna.trial.TrialState
    for trial in trials:
        scores = [value for value in score(trial) if not math.isnan(value)]
        # One that failed, or was ended early, is known to be no good, however far it came.
        state = {"running": states.RUNNING, "finished": states.COMPLETE}.get(trial.state, states.PRUNED)
        study.add_trial(
            optuna.trial.create_trial(
                state=states.PRUNED if state == states.COMPLETE and not scores else state,
                value=scores[-1] if state == states.COMPLETE and scores else None,
                params={key: _encoded(found, trial.values[key]) for key, found in config.over.items()},
                distributions=space,
                intermediate_values={} if state == states.RUNNING else dict(enumerate(scores)),
            )
        )
    return study


def _drawn(config: SweepConfig, trials: Sequence[Trial], score: Score, turn: int) -> dict[str, Any]:
    import optuna

    # A seed for each trial: a sampler that was made anew would draw again what it drew first.
    digest = hashlib.blake2b(f"{config.seed},{len(trials)},{turn}".encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if config.searcher == "tpe":
            # Trials that are under way count as no better than the worst, so that neighbours of theirs are not tried meanwhile.
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=_startup(config))
        study = study_of(config, trials, score, sampler)
        asked = study.ask({key: _distribution(found) for key, found in config.over.items()})
    return {key: _decoded(found, asked.params[key]) for key, found in config.over.items()}


def _startup(config: SweepConfig) -> int:
    """Return how many trials are drawn at random before any conclusion: a third of them, and at most ten."""
    return min(10, max(2, config.most // 3))


def _distribution(found: Range) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if found.choice is not None:
        return CategoricalDistribution(range(len(found.choice)))
    low, high = found.ends
    return IntDistribution(int(low), int(high)) if found.integer else FloatDistribution(low, high, log=found.log is not None)


def _encoded(found: Range, value: Any) -> Any:
    if found.choice is not None:
        return next(place for place, other in enumerate(found.choice) if repr(_plain(other)) == repr(_plain(value)))
    return value if found.integer else float(value)


def _decoded(found: Range, value: Any) -> Any:
    if found.choice is not None:
        return _plain(found.choice[value])
    if found.integer:
        return int(value)
    low, high = found.ends
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _plain(value: Any) -> Any:
    """Return a value as params.yaml gives it: sequences as lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _identity(values: dict[str, Any]) -> str:
    return repr(sorted((key, _plain(value)) for key, value in values.items()))
