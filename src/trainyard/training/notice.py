"""A worker's notice that its process is to end soon: SIGTERM, as a cloud or a scheduler sends it before it takes a machine."""

from __future__ import annotations

import signal
import threading

given = threading.Event()
"""Set when the notice has come."""


def await_notice() -> None:
    """Take SIGTERM as a notice from now on; called in the main thread, while the training runs in another."""
    given.clear()
    signal.signal(signal.SIGTERM, lambda *_: given.set())
