from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainyard.errors import InputError, Interrupted
from trainyard.recipe import Recipe
from trainyard.training.job import FitJob
from trainyard.training.trial_fit import TrialFit


@contextmanager
def here(job: FitJob) -> Iterator[FitJob]:
    yield job


@pytest.fixture
def make_job(digits_copy: Path, tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., FitJob]:
    """Jobs of one trial; the test split is not there to be read."""
    shutil.rmtree(digits_copy / "test")

    def make(**train: object) -> FitJob:
        return FitJob(
            recipe=make_recipe(**train), data_dir=digits_copy, scratch_dir=tmp_path / "fit", fingerprint="digits-sweep-0000"
        )

    (tmp_path / "fit").mkdir()
    return make


def all_of(fit: TrialFit) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    finished = False
    while not finished:
        epochs, finished = fit.next_epochs()
        found += epochs
    return found


def numbers(history: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(values["step"], values["val/loss"]) for values in history]


def test_each_epoch_is_told_once_and_the_test_split_is_not_read(make_job: Callable[..., FitJob]) -> None:
    fit = TrialFit(make_job(epochs=3), 1, 1, here)
    history = all_of(fit)
    assert [values["step"] for values in history] == [19, 38, 57]
    assert all(0 <= values["val/accuracy"] <= 1 for values in history)
    assert fit.next_epochs() == ([], True)


def test_a_trial_that_was_ended_continues_and_ends_with_the_same_numbers(make_job: Callable[..., FitJob]) -> None:
    first = TrialFit(make_job(epochs=6), 1, 1, here)
    begun, _ = first.next_epochs()
    first.end()
    assert isinstance(first.outcome, Interrupted)
    continued = all_of(TrialFit(make_job(epochs=6), 2, 1, here))
    # Of what was told before, the second attempt tells again.
    assert numbers(continued)[: len(begun)] == numbers(begun)
    shutil.rmtree(make_job().scratch_dir)
    make_job().scratch_dir.mkdir()
    assert numbers(continued) == numbers(all_of(TrialFit(make_job(epochs=6), 1, 1, here)))


def test_an_earlier_attempt_that_still_runs_leaves_the_trial_to_the_later_one(make_job: Callable[..., FitJob]) -> None:
    later = TrialFit(make_job(epochs=6), 2, 1, here)
    later.next_epochs()
    later.end()
    # The place knows the later one: what was given up for lost and comes back writes nothing more.
    earlier = TrialFit(make_job(epochs=6), 1, 1, here)
    with pytest.raises(Interrupted, match="attempt 2 has taken over"):
        all_of(earlier)


def test_values_that_cannot_be_trained_are_the_trials_own_end(make_job: Callable[..., FitJob]) -> None:
    fit = TrialFit(
        make_job(epochs=3, learning_rate=1e30, optimizer="sgd", schedule="constant", warmup_fraction=0.0), 1, 1, here
    )
    with pytest.raises(InputError, match=r"lower train\.learning_rate"):
        all_of(fit)
