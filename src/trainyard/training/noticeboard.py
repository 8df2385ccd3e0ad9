"""What driver and workers tell each other beside the training: a few small values that Ray's head keeps for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trainyard.training.timing import BOARD_SECONDS

STOP, LEAVE = "stop", "leave"
"""Names of what the driver asks for, and of what a worker does."""


class Noticeboard:
    """Values by name, of one launch."""

    def __init__(self, launch: str, head: Callable[[], Any]) -> None:
        """`head` returns Ray's connection to its head, as it is at the moment."""
        self.namespace = f"trainyard-{launch}".encode()
        self.head = head

    def post(self, name: str, value: bytes) -> None:
        """Write a value over the one before.

        Raises:
            Exception: Ray's head does not answer, as Ray says it.
        """
        self.head().internal_kv_put(name.encode(), value, True, self.namespace, BOARD_SECONDS)

    def read(self, names: list[str]) -> dict[str, bytes]:
        """Return those of the values that there are.

        Raises:
            Exception: Ray's head does not answer, as Ray says it.
        """
        found = self.head().internal_kv_multi_get([name.encode() for name in names], self.namespace, BOARD_SECONDS)
        return {name.decode(): value for name, value in found.items()}

    def stop(self, reason: str) -> None:
        """Ask the workers to save and to leave."""
        self.post(STOP, json.dumps({"reason": reason}).encode())

    def leave(self, reason: str, attempt: int) -> None:
        """Ask the same of the workers of one's own attempt.

        Ray ends the workers that others have taken the place of with a SIGTERM as well, and may take seconds to.
        """
        self.post(LEAVE, json.dumps({"reason": reason, "attempt": attempt}).encode())

    def stopped(self, attempt: int | None = None) -> str | None:
        """Return why the workers of an attempt are to leave, if they are; without a number, why those of any were to."""
        found = {name: json.loads(value) for name, value in self.read([STOP, LEAVE]).items()}
        if attempt is not None and LEAVE in found and found[LEAVE]["attempt"] != attempt:
            del found[LEAVE]
        return next((str(found[name]["reason"]) for name in (STOP, LEAVE) if name in found), None)
