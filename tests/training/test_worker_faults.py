"""Workers that die or fail in the midst of a step, each in its own way: the next attempt ends as if nothing had happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.gang import PATIENCE, Gang, assert_same_end, is_stopped, newest_facts

from trainyard.training import checkpoint
from trainyard.training.job import FitJob

pytestmark = pytest.mark.faults
Build = Callable[..., FitJob]
STEP = 8
"""Two steps after a checkpoint, two before the end of the first epoch."""


@pytest.fixture(scope="module")
def uninterrupted() -> dict[int, Gang]:
    """Trainings of the CNN that nothing disturbed, by number of workers."""
    return {}


@pytest.fixture
def whole(uninterrupted: dict[int, Gang], build: Build, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Gang]:
    """Return a function that gives the undisturbed training with so many workers, which takes place once."""

    def get(workers: int) -> Gang:
        if workers not in uninterrupted:
            job = build("cnn", "whole", folder=tmp_path_factory.mktemp("whole"))
            gang = Gang(job, workers)
            end = gang.attempt()
            assert end.finished, end.said
            uninterrupted[workers] = gang
        return uninterrupted[workers]

    return get


def killed(phase: str, rank: int, quick: bool = False) -> Any:
    return pytest.param(phase, rank, marks=() if quick else pytest.mark.long, id=f"{phase}-{rank}")


@pytest.mark.parametrize(
    ("phase", "rank"),
    [
        killed("forward", 0),
        killed("forward", 1),
        killed("backward", 0),
        killed("backward", 1),
        killed("reduce", 0),
        killed("reduce", 1, quick=True),
        killed("step", 0),
        killed("step", 1),
        killed("save", 0, quick=True),
        killed("report", 0),
        killed("validation", 0),
        killed("validation", 1),
    ],
)
def test_a_worker_killed_in_any_phase_costs_nothing(build: Build, whole: Callable[[int], Gang], phase: str, rank: int) -> None:
    gang = Gang(build("cnn", "killed"), 2)
    end = gang.attempt(f"kill:rank{rank}:step{STEP}:phase={phase}")
    assert end.exit_codes[rank] == -signal.SIGKILL, end.said
    end = gang.attempt()
    assert end.finished, end.said
    assert_same_end(whole(2), gang)


@pytest.mark.long
@pytest.mark.parametrize(("action", "code"), [("segv", -signal.SIGSEGV), ("abort", -signal.SIGABRT), ("exit", 1), ("raise", 1)])
def test_a_worker_that_dies_in_another_way_costs_nothing(
    build: Build, whole: Callable[[int], Gang], action: str, code: int
) -> None:
    gang = Gang(build("cnn", "died"), 2)
    end = gang.attempt(f"{action}:rank1:step{STEP}:phase=backward")
    assert end.exit_codes[1] == code, end.said
    end = gang.attempt()
    assert end.finished, end.said
    assert_same_end(whole(2), gang)


@pytest.mark.parametrize("action", ["stop", pytest.param("hang", marks=pytest.mark.long)])
def test_workers_that_hang_and_are_killed_go_on_exactly(build: Build, whole: Callable[[int], Gang], action: str) -> None:
    gang = Gang(build("cnn", "hung"), 2)
    mark = gang.job.scratch_dir / f"fault-{action}-forward-{STEP}-rank1"
    with gang.started(f"{action}:rank1:step{STEP}:phase=forward") as workers:
        deadline = time.monotonic() + PATIENCE
        while not (mark.exists() and (action == "hang" or is_stopped(workers[1].pid or 0))):
            assert time.monotonic() < deadline, "nothing hangs"
            assert workers[1].is_alive()
            time.sleep(0.02)
        assert all(worker.is_alive() for worker in workers)
    end = gang.attempt()
    assert end.finished, end.said
    assert_same_end(whole(2), gang)


@pytest.mark.long
def test_a_validation_that_was_interrupted_is_done_again(build: Build, whole: Callable[[int], Gang]) -> None:
    gang = Gang(build("cnn", "killed"), 1)
    end = gang.attempt(f"kill:rank0:step{STEP}:phase=validation:settled")
    assert end.exit_codes == [-signal.SIGKILL]
    assert not newest_facts(gang).ended
    end = gang.attempt()
    assert end.finished, end.said
    assert_same_end(whole(1), gang)


def test_a_loss_that_is_no_number_stops_all_workers_in_its_step_and_is_never_saved(build: Build) -> None:
    gang = Gang(build("cnn", "nan"), 2)
    end = gang.attempt(f"nan:rank1:step{STEP}:phase=forward:settled")
    assert end.exit_codes == [2, 2], end.said
    for said in end.said:
        assert f"gradient norm nan at epoch 1, step {STEP}, training samples " in said
        assert "the last good checkpoint, step-000000006, is kept" in said
    assert newest_facts(gang).step == 6
    # It was a fault on demand: the same command goes on from there.
    assert gang.attempt().finished


def test_an_augmentation_that_fails_on_one_worker_stops_all_and_names_the_sample(build: Build) -> None:
    gang = Gang(build("cnn", "poisoned"), 2)
    end = gang.attempt(poison=7)
    assert end.exit_codes == [2, 2], end.said
    for said in end.said:
        assert "train.augment fails at training samples 7 (ValueError: cannot be turned)" in said
        assert said.startswith("InputError: training stopped at epoch 1, step ")


def test_a_crash_that_repeats_stops_with_its_cause(build: Build) -> None:
    gang = Gang(build("cnn", "poisoned"), 2)
    poison = f"kill:rank1:step{STEP}:phase=forward:repeat"
    for _ in range(3):
        assert gang.attempt(poison).exit_codes[1] == -signal.SIGKILL
    end = gang.attempt(poison)
    assert end.exit_codes == [3, 3], end.said
    for said in end.said:
        assert f"3 attempts in a row ended at epoch 1, step {STEP} of it, where workers died without a word" in said
        assert "rank 1 at training samples " in said
    # Said once; what was in the way may be gone.
    end = gang.attempt()
    assert end.finished, end.said


def test_an_error_that_repeats_stops_with_what_was_said(build: Build) -> None:
    gang = Gang(build("cnn", "failing"), 1)
    for _ in range(3):
        assert gang.attempt(f"raise:rank0:step{STEP}:phase=forward:repeat").exit_codes == [1]
    end = gang.attempt()
    assert end.exit_codes == [2], end.said
    assert "RuntimeError: a fault on demand" in end.said[0]
    assert "rank 0 at training samples " in end.said[0]


def test_attempts_that_end_at_different_steps_are_no_crash_loop(build: Build) -> None:
    gang = Gang(build("cnn", "unlucky"), 1)
    for step in (4, 5, 6, 7):
        assert gang.attempt(f"kill:rank0:step{step}:phase=forward").exit_codes == [-signal.SIGKILL]
    assert gang.attempt().finished


def test_an_interrupted_training_saves_the_step_it_is_at(build: Build, tmp_path: Path) -> None:
    import threading

    from trainyard.errors import Interrupted
    from trainyard.training.fit import fit

    job = build("cnn", "stopped", every=None)
    job.scratch_dir.mkdir()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted, match="told to stop"):
        fit(job, stop=stop)
    valid, _ = checkpoint.scan(job.checkpoints, job.fingerprint)
    assert [found.facts.step for found in valid] == [1]
