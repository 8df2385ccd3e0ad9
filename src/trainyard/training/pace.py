"""When to save within an epoch, and when to stop: the same step on all workers, without asking them at every one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum

CHECK_SECONDS = 0.5
"""How long workers go on, at most about so long, before they agree again."""
MOST_STEPS = 1000


class Verdict(IntEnum):
    """What all workers do after a step."""

    GO_ON = 0
    SAVE = 1
    STOP = 2
    """Save, and leave."""


class Pace:
    """Agrees with the other workers every half second or so.

    What a clock or a signal says differs from worker to worker. Rank 0 says what is done, and how many steps later it will
    be asked again, so that no message is needed in the steps between.
    """

    def __init__(
        self,
        *,
        seconds: float | None,
        steps: int | None,
        stop: threading.Event,
        broadcast: Callable[[tuple[Verdict, int]], tuple[Verdict, int]] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            seconds: between two saves; None: any number.
            steps: a multiple of which is saved after; None: none.
            stop: set where rank 0 is to end the training.
            broadcast: hands rank 0's word to all workers; None where there is one alone.
            clock: seconds.
        """
        self.seconds, self.steps, self.stop, self.broadcast, self.clock = seconds, steps, stop, broadcast, clock
        self.saved = self.asked = clock()
        self.asked_step = self.next_step = 0

    def verdict(self, step: int) -> Verdict:
        """Return what all workers do after a step (1-based, rising)."""
        own = Verdict.GO_ON
        if step >= self.next_step:
            own, steps = self._say(step)
            if self.broadcast is not None:
                own, steps = self.broadcast((own, steps))
            self.next_step = step + steps
        if own is Verdict.GO_ON and self.steps is not None and step % self.steps == 0:
            own = Verdict.SAVE
        return own

    def was_saved(self) -> None:
        """Count the seconds anew."""
        self.saved = self.clock()

    def _say(self, step: int) -> tuple[Verdict, int]:
        now = self.clock()
        due = self.seconds is not None and now - self.saved >= self.seconds
        verdict = Verdict.STOP if self.stop.is_set() else Verdict.SAVE if due else Verdict.GO_ON
        if self.broadcast is None:
            return verdict, 1
        rate = (now - self.asked) / max(1, step - self.asked_step)
        self.asked, self.asked_step = now, step
        return verdict, max(1, min(MOST_STEPS, int(CHECK_SECONDS / max(rate, 1e-9))))
