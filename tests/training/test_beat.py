from __future__ import annotations

from dataclasses import replace

import pytest

from trainyard.training.beat import Beat, Hearing, Place, Progress
from trainyard.training.timing import (
    BEAT_SECONDS,
    HANG_FACTOR,
    LAG_STEPS,
    LEAST_SECONDS,
    NEW_PHASE_SECONDS,
    SAVING_SECONDS,
    SILENCE_SECONDS,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def place(rank: int) -> Place:
    return Place(rank=rank, workers=2, host="alpha", node="n", pid=100 + rank, actor=f"a{rank}")


def trained(rank: int, clock: Clock, step_seconds: float = 1.0, steps: int = 3) -> Progress:
    """A worker that has been through some steps and stands before the next one."""
    progress = Progress(place(rank), clock)
    for step in range(steps):
        for phase in ("between steps", "forward", "backward", "optimizer"):
            progress.enter(phase, 0, step)
            clock.now += step_seconds / 4
    progress.enter("between steps", 0, steps)
    return progress


class Room:
    """Workers and the driver that hears them, second by second."""

    def __init__(self, clock: Clock, workers: list[Progress]) -> None:
        self.clock, self.workers = clock, workers
        self.hearing = Hearing(clock)
        self.silent: dict[int, bytes] = {}

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds / BEAT_SECONDS)):
            self.clock.now += BEAT_SECONDS
            said = {w.place.rank: self.silent.get(w.place.rank) or w.beat().encode() for w in self.workers}
            self.hearing.listen(said)


def test_a_message_is_read_as_it_was_written(clock: Clock) -> None:
    beat = trained(1, clock).beat()
    assert Beat.decode(beat.encode()) == beat
    assert str(beat) == "rank 1 (pid 101 on alpha) at epoch 1, step 4 (between steps)"


def test_a_worker_that_says_nothing_hangs_whatever_it_does(clock: Clock) -> None:
    room = Room(clock, [trained(0, clock), trained(1, clock)])
    room.passes(5)
    room.workers[1].enter("saving", 0, 3)
    room.silent[1] = room.workers[1].beat().encode()
    room.passes(SILENCE_SECONDS)
    assert room.hearing.hang() is None
    room.passes(3)
    hang = room.hearing.hang()
    assert hang is not None and hang.silent and hang.beat.place == place(1)
    assert "rank 1 (pid 101 on alpha) at epoch 1, step 4 (saving) has said nothing for " in str(hang)


def test_of_workers_that_all_stand_still_the_one_that_got_least_far_is_to_blame(clock: Clock) -> None:
    zero, one = trained(0, clock), trained(1, clock)
    zero.enter("backward", 0, 3)
    one.enter("forward", 0, 3)
    room = Room(clock, [zero, one])
    room.passes(LEAST_SECONDS)
    assert room.hearing.hang() is None
    room.passes(3)
    hang = room.hearing.hang()
    assert hang is not None and not hang.silent and hang.beat.place == place(1)


def test_a_hang_is_found_within_thirty_seconds() -> None:
    assert max(SILENCE_SECONDS, LEAST_SECONDS) + 5 * BEAT_SECONDS <= 30


def test_a_worker_that_saves_or_validates_for_long_is_waited_for(clock: Clock) -> None:
    zero, one = trained(0, clock), trained(1, clock)
    room = Room(clock, [zero, one])
    zero.enter("saving", 0, 3)
    one.enter("backward", 0, 3)
    room.passes(SAVING_SECONDS - 10)
    assert room.hearing.hang() is None
    zero.enter("validation", 0, 3)
    room.passes(NEW_PHASE_SECONDS - 10)
    assert room.hearing.hang() is None
    room.passes(20)
    assert room.hearing.hang() is not None


def test_slow_steps_are_given_their_multiple(clock: Clock) -> None:
    zero, one = trained(0, clock, step_seconds=40), trained(1, clock, step_seconds=40)
    for worker in (zero, one):
        worker.enter("forward", 0, 3)
    room = Room(clock, [zero, one])
    room.passes(HANG_FACTOR * 10 - 5)
    assert room.hearing.hang() is None
    room.passes(10)
    assert room.hearing.hang() is not None


def test_the_first_step_may_compile(clock: Clock) -> None:
    workers = [Progress(place(rank), clock) for rank in (0, 1)]
    for worker in workers:
        worker.enter("forward", 0, 0)
    room = Room(clock, workers)
    room.passes(NEW_PHASE_SECONDS - 10)
    assert room.hearing.hang() is None


def test_while_the_driver_itself_was_stopped_nobody_was_silent(clock: Clock) -> None:
    room = Room(clock, [trained(0, clock), trained(1, clock)])
    room.passes(5)
    before = {worker.place.rank: worker.beat().encode() for worker in room.workers}
    clock.now += 3600
    room.hearing.listen(before)
    assert room.hearing.hang() is None


def test_while_rays_head_is_away_nobody_was_silent(clock: Clock) -> None:
    room = Room(clock, [trained(0, clock), trained(1, clock)])
    room.passes(5)
    for _ in range(60):
        clock.now += 1
        room.hearing.deaf()
    assert room.hearing.hang() is None


def test_workers_that_are_no_more_are_not_waited_for(clock: Clock) -> None:
    zero, one = trained(0, clock), trained(1, clock)
    room = Room(clock, [zero, one])
    room.passes(2)
    room.workers = [zero]
    zero.place = replace(zero.place, workers=1)
    room.passes(2 * SILENCE_SECONDS)
    assert room.hearing.hang() is None or room.hearing.hang().beat.place.rank == 0  # type: ignore[union-attr]
    assert list(room.hearing.beats) == [0]


def test_a_straggler_is_the_one_whose_own_work_takes_several_times_as_long(clock: Clock) -> None:
    quick, slow = trained(0, clock, 1.0, LAG_STEPS), trained(1, clock, 5.0, LAG_STEPS)
    room = Room(clock, [quick, slow])
    room.passes(2)
    found = room.hearing.straggler()
    assert found is not None
    assert found[0].place.rank == 1 and found[1] == pytest.approx(5.0)


def test_equal_workers_have_no_straggler_nor_have_those_that_only_begin(clock: Clock) -> None:
    room = Room(clock, [trained(0, clock, 1.0, LAG_STEPS), trained(1, clock, 1.5, LAG_STEPS)])
    room.passes(2)
    assert room.hearing.straggler() is None
    room = Room(clock, [trained(0, clock, 1.0, LAG_STEPS), trained(1, clock, 9.0, LAG_STEPS - 2)])
    room.passes(2)
    assert room.hearing.straggler() is None
