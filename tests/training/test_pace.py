from __future__ import annotations

import threading

from trainyard.training.pace import CHECK_SECONDS, Pace, Verdict


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def alone(clock: Clock, seconds: float | None = None, steps: int | None = None) -> Pace:
    return Pace(seconds=seconds, steps=steps, stop=threading.Event(), broadcast=None, clock=clock)


def test_a_multiple_of_steps_is_saved_after() -> None:
    pace = alone(Clock(), steps=3)
    assert [step for step in range(1, 11) if pace.verdict(step) is Verdict.SAVE] == [3, 6, 9]


def test_so_many_seconds_after_the_last_save_comes_the_next() -> None:
    clock, saved = Clock(), []
    pace = alone(clock, seconds=10)
    for step in range(1, 41):
        clock.now += 1
        if pace.verdict(step) is Verdict.SAVE:
            saved.append(step)
            pace.was_saved()
    assert saved == [10, 20, 30, 40]


def test_who_is_told_to_stop_stops_after_the_step() -> None:
    pace = alone(Clock())
    assert pace.verdict(1) is Verdict.GO_ON
    pace.stop.set()
    assert pace.verdict(2) is Verdict.STOP


def test_workers_agree_whatever_their_clocks_say_and_seldom_ask() -> None:
    words: dict[int, tuple[Verdict, int]] = {}
    step = 0

    def say(word: tuple[Verdict, int]) -> tuple[Verdict, int]:
        words[step] = word
        return word

    clock = Clock()
    first = Pace(seconds=2.75, steps=None, stop=threading.Event(), broadcast=say, clock=clock)
    second = Pace(seconds=1e9, steps=None, stop=threading.Event(), broadcast=lambda word: words[step], clock=Clock())
    verdicts: list[tuple[Verdict, Verdict]] = []
    for step in range(1, 1001):
        clock.now += 0.01
        verdicts.append((first.verdict(step), second.verdict(step)))
        if verdicts[-1][0] is Verdict.SAVE:
            first.was_saved()
            second.was_saved()
    assert all(one is two for one, two in verdicts)
    assert sum(one is Verdict.SAVE for one, _ in verdicts) == 3
    # Ten seconds pass.
    assert len(words) <= 10 / CHECK_SECONDS + 2
