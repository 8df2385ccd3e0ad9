"""One attempt at a time writes: what a later attempt has taken over, an earlier one that still runs must leave alone.

A worker that lost its link does not know that others go on without it. Cut off from them, it may still reach the store.
"""

from __future__ import annotations

import json
import os

from trainyard.errors import Interrupted
from trainyard.training.store import Store, put

ATTEMPT = "TRAINYARD_ATTEMPT"
"""Variable of a worker's environment: a number that is higher in each later attempt. Unset: alone in its process."""
FILE = "attempt.json"


def attempt_of_this_process() -> int:
    """Return the number of the attempt that this process belongs to."""
    return int(os.environ.get(ATTEMPT, "0"))


class Fence:
    """The claim of one attempt on the place of a training's checkpoints."""

    def __init__(self, store: Store, number: int) -> None:
        self.store = store
        self.number = number

    def claim(self) -> None:
        """Take the place over from earlier attempts.

        Raises:
            Interrupted: a later one has it.
            ServiceError: the store is away.
        """
        self.check()
        if self.number:
            put(self.store, FILE, f"{json.dumps({'attempt': self.number})}\n".encode())

    def check(self) -> None:
        """Go on only while no later attempt has taken over.

        Raises:
            Interrupted: one has.
            ServiceError: the store is away.
        """
        if self.number and (holder := self._holder()) > self.number:
            raise Interrupted(
                f"{self.store.address}: attempt {self.number} was given up for lost, and attempt {holder} has taken over; "
                "this one ends and writes nothing more"
            )

    def _holder(self) -> int:
        try:
            return int(json.loads(self.store.read(FILE))["attempt"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):
            # Files appear whole here. One that is torn is nobody's claim.
            return 0
