from __future__ import annotations

from pathlib import Path

from trainyard.errors import InputError, MachineError
from trainyard.training.trail import SAME_CRASHES, Trail, explain, forget, look_back, repeated, shown


def attempt(folder: Path, places: dict[int, tuple[int, int] | None], errors: dict[int, str] | None = None) -> None:
    """Leave the files of an attempt whose workers were at these places when they died."""
    for rank, place in places.items():
        trail = Trail(folder, rank)
        trail.begin()
        if place is not None:
            trail.at(*place)
        if errors and rank in errors:
            trail.end(RuntimeError(errors[rank]))


def test_the_one_that_said_nothing_is_the_one_that_died(tmp_path: Path) -> None:
    # Rank 0 was a step further when it lost rank 1, and said so.
    attempt(tmp_path, {0: (2, 6), 1: (2, 5)}, {0: "Connection closed by peer"})
    (crash,) = look_back(tmp_path)
    assert (crash.epoch, crash.step, crash.silent) == (2, 5, [1])
    assert crash.errors == {"0": "RuntimeError: Connection closed by peer"}


def test_an_attempt_that_ended_well_or_never_began_is_no_crash(tmp_path: Path) -> None:
    attempt(tmp_path, {0: None, 1: None})
    assert look_back(tmp_path) == []
    trail = Trail(tmp_path, 0)
    trail.begin()
    trail.at(0, 3)
    trail.end()
    assert look_back(tmp_path) == []


def test_the_same_step_three_times_in_a_row_is_a_loop_and_others_between_are_not(tmp_path: Path) -> None:
    for step in (5, 5, 4, 5, 5):
        attempt(tmp_path, {0: (0, step)})
        assert repeated(look_back(tmp_path)) is None
    attempt(tmp_path, {0: (0, 5)})
    crash = repeated(look_back(tmp_path))
    assert crash is not None and crash.step == 5
    forget(tmp_path)
    assert repeated(look_back(tmp_path)) is None


def test_a_crash_without_a_word_is_the_machines_and_one_with_a_word_the_users(tmp_path: Path) -> None:
    for _ in range(SAME_CRASHES):
        attempt(tmp_path, {0: (1, 5), 1: (1, 5)}, {0: "closed"})
        crashes = look_back(tmp_path)
    told = explain(crashes[-1], {0: [1, 2], 1: [30, 40]})
    assert isinstance(told, MachineError)
    assert "at epoch 2, step 6 of it, where workers died without a word" in str(told)
    assert "(rank 1 at training samples 30, 40)" in str(told)
    attempt(tmp_path, {0: (1, 5)}, {0: "bad mask"})
    told = explain(look_back(tmp_path)[-1], {0: [1, 2]})
    assert isinstance(told, InputError)
    assert "RuntimeError: bad mask (rank 0 at training samples 1, 2)" in str(told)


def test_damaged_files_are_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "crashes.jsonl").write_text("{half")
    (tmp_path / "rank-0.at").write_bytes(b"x")
    assert look_back(tmp_path) == []


def test_a_long_batch_is_shown_by_its_beginning() -> None:
    assert shown(list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7, ..."
    assert shown([]) == "none"
