"""One attempt at a time writes: what a later attempt has taken over, an earlier one that still runs must leave alone.

A worker that lost its link does not know that others go on without it. Cut off from them, it may still reach the store.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainyard.errors import Interrupted
from trainyard.files import write_whole

ATTEMPT = "TRAINYARD_ATTEMPT"
"""Variable of a worker's environment: a number that is higher in each later attempt. Unset: alone in its process."""
FILE = "attempt.json"


class Fence:
    """The claim of one attempt on the folder of a training."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number

    @classmethod
    def of_this_process(cls, folder: Path) -> Fence:
        """Return the claim of the attempt that this process belongs to."""
        return cls(folder, int(os.environ.get(ATTEMPT, "0")))

    def claim(self) -> None:
        """Take the folder over from earlier attempts.

        Raises:
            Interrupted: a later one has it.
        """
        self.check()
        if self.number:
            write_whole(self.folder / FILE, f"{json.dumps({'attempt': self.number})}\n".encode())

    def check(self) -> None:
        """Go on only while no later attempt has taken over.

        Raises:
            Interrupted: one has.
        """
        if self.number and (holder := self._holder()) > self.number:
            raise Interrupted(
                f"{self.folder}: attempt {self.number} was given up for lost, and attempt {holder} has taken over; "
                "this one ends and writes nothing more"
            )

    def _holder(self) -> int:
        try:
            return int(json.loads((self.folder / FILE).read_text(encoding="utf-8"))["attempt"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):
            # Files appear whole here. One that is torn is nobody's claim.
            return 0
