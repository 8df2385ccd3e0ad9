"""The poster as a stage sees it: a process that may be slow, stuck or killed without any harm to the stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from trainyard.tracking import limits
from trainyard.tracking.journal import spool_folder

RESTARTS = 3
"""So often a poster that died is replaced."""


class AnySender(Protocol):
    """Whoever sees to it that a journal is sent."""

    def tell(self, what: dict[str, Any]) -> None:
        """Tell it something."""

    def revive(self) -> bool:
        """Return whether it is there, once it has been replaced should it have died."""

    def busy_seconds(self) -> float:
        """Return for how long it has worked."""

    def end(self) -> None:
        """End it."""


class Sender:
    """Starts the poster at once, so that it has imported MLflow before there is something to send."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root = root
        self._asked = {"root": str(root), "uri": uri, "sync": False}
        self._told: list[dict[str, Any]] = []
        self._restarts = RESTARTS
        self._disk_seconds = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._start()

    def tell(self, what: dict[str, Any]) -> None:
        """Tell it something, and its replacement should it die."""
        self._told.append(what)
        self._write(what)

    def revive(self) -> bool:
        """Replace a poster that died; return whether there is one."""
        if self._process is not None and self._process.poll() is None:
            return True
        if self._restarts == 0 or self._process is None:
            return False
        self._restarts -= 1
        self._close()
        self._start()
        return True

    def busy_seconds(self) -> float:
        """Return for how long it has computed or waited for a processor or a disk; it stands still while a store is silent."""
        if self._process is None:
            return 0.0
        try:
            process = Path(f"/proc/{self._process.pid}")
            computed, waited, _ = (process / "schedstat").read_text().split()
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "D":
                self._disk_seconds += limits.POLL_SECONDS
        except (OSError, ValueError):
            return 0.0
        return (int(computed) + int(waited)) / 1e9 + self._disk_seconds

    def end(self) -> None:
        """End it, also in the midst of a request."""
        if self._process is None:
            return
        self._close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        self._process = start_poster(self.root, stdout=subprocess.DEVNULL)
        for line in (self._asked, *self._told):
            self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        # A poster that died is noticed by `revive`; a full pipe cannot be, at some hundred bytes in all.
        with suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(json.dumps(line) + "\n")
                self._process.stdin.flush()

    def _close(self) -> None:
        with suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()


def start_poster(root: Path, stdout: int) -> subprocess.Popen[str]:
    """Start a poster, whose errors go to a file beside the journals. Passwords reach it by stdin, not by its arguments.

    Raises:
        OSError: the disk is full or read-only.
    """
    folder = spool_folder(root)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with (folder / "poster.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trainyard.tracking.poster"],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
