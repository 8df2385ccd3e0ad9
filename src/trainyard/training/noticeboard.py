"""What driver and workers tell each other beside the training: a few small values that Ray's head keeps for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trainyard.training.timing import BOARD_SECONDS


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
        self.post("stop", json.dumps({"reason": reason}).encode())

    def stopped(self) -> str | None:
        """Return why the workers are to leave, if they are."""
        value = self.read(["stop"]).get("stop")
        return None if value is None else str(json.loads(value)["reason"])
