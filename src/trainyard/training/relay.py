"""The way of the records through the storage of the checkpoints, to a driver that may share no folder with rank 0's node.

    <storage>/<fingerprint>/records/00000012-5f3a90c2.jsonl

Rank 0 puts its newest records there as one object, again and longer each time until it is full, when the next one begins. An
attempt begins with a number of its own, so none writes over what another one has put. The driver copies each line that it
does not have to its own spool, once.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainyard.errors import ServiceError
from trainyard.training import spool
from trainyard.training.spool import Record
from trainyard.training.store import Store, put
from trainyard.training.timing import RELAY_SECONDS

FOLDER = "records"
FULL_BYTES = 2**16
"""An object of so many is not put again: it would be sent over and over."""


class Outbox:
    """Rank 0's end, a spool as the recorder wants it: takes records at once, and a thread brings them to the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._number = 0
        self._token = secrets.token_hex(4)
        self._lines: list[bytes] = []
        """Of the object under way."""
        self._done = 0
        """How many of them are in the store."""
        self._lock = threading.Lock()
        self._putting = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self) -> Iterator[Record]:
        """Yield what earlier attempts have put there.

        Raises:
            ServiceError: the store does not answer.
        """
        for name in self.store.names(FOLDER):
            self._number = max(self._number, int(name.partition("-")[0]) + 1)
            for line in _whole_lines(self.store, name):
                if (record := spool.parse(line)) is not None:
                    yield record

    def append(self, record: Record) -> None:
        """Take a record; a store that is away holds nobody up."""
        with self._lock:
            self._lines.append(spool.line_of(record))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="records", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Put what has not been put yet.

        Raises:
            ServiceError: the store does not take it.
            OSError: it is a folder, and full or broken.
        """
        with self._putting:
            with self._lock:
                lines = list(self._lines)
            if len(lines) == self._done:
                return
            content = b"".join(lines)
            put(self.store, f"{FOLDER}/{self._number:08d}-{self._token}.jsonl", content)
            self._done = len(lines)
            if len(content) >= FULL_BYTES:
                with self._lock:
                    del self._lines[: self._done]
                self._done = 0
                self._number += 1

    def close(self) -> None:
        """End the thread; what is not flushed is not put any more."""
        self._over.set()

    def _work(self) -> None:
        while not self._over.wait(RELAY_SECONDS):
            # Away, or full: tried again in a moment. What cannot be done without is flushed by whoever needs it.
            with suppress(ServiceError, OSError):
                self.flush()


class Inbox:
    """The driver's end: copies what arrives to its own spool."""

    def __init__(self, store: Store, path: Path) -> None:
        """Begin to listen.

        Args:
            store: of the checkpoints.
            path: the driver's spool.
        """
        self.store = store
        self.path = path
        self.problem = ""
        """Why nothing can be copied now."""
        self._said = ""
        self._sizes: dict[str, int] = {}
        # Those that an earlier command has copied are there already.
        self._known = {_digest(line) for line in spool.whole_lines(path)}
        self._collecting = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._listen, name="inbox", daemon=True).start()

    def collect(self) -> None:
        """Copy what is there now.

        Raises:
            ServiceError: the store does not answer.
            OSError: one of the disks is full or broken.
        """
        with self._collecting:
            for name, size in self.store.sizes(FOLDER).items():
                if self._sizes.get(name) != size:
                    self._copy(name)

    def news(self) -> list[str]:
        """Return the line that there is to say of the store, if it is new."""
        before, self._said = self._said, self.problem
        if bool(before) == bool(self._said):
            return []
        if before:
            return [f"{self.store.address} answers again"]
        return [f"warning: {self._said}; what the workers record cannot be shown until then"]

    def stop(self) -> None:
        """Listen no more; `collect` can still be called."""
        self._over.set()

    def _listen(self) -> None:
        while not self._over.wait(RELAY_SECONDS):
            try:
                self.collect()
                self.problem = ""
            except (ServiceError, OSError) as error:
                self.problem = str(error)

    def _copy(self, name: str) -> None:
        lines = _whole_lines(self.store, name)
        new = [line for line in lines if _digest(line) not in self._known]
        if new:
            spool.add_lines(self.path, new)
        self._known.update(map(_digest, new))
        self._sizes[name] = sum(map(len, lines))


def _whole_lines(store: Store, name: str) -> list[bytes]:
    return [line for line in store.read(f"{FOLDER}/{name}").splitlines(keepends=True) if line.endswith(b"\n")]


def _digest(line: bytes) -> bytes:
    """Return what a line is known by; it holds the time it was made, so that no two are the same."""
    return hashlib.blake2b(line, digest_size=16).digest()
