"""The load of the driver's machine while it trains, under MLflow's own names, so that its page of system metrics shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from trainyard.training.load import Machine
from trainyard.training.timing import LOAD_SECONDS


class Load:
    """Samples the load now and then, in a thread."""

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        machine = Machine()
        while not self._over.wait(LOAD_SECONDS):
            self._log({f"system/{key}": value for key, value in machine.look().items()})
