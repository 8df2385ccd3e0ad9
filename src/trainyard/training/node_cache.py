"""What a node had to fetch, kept on its disk for the next training, and never more of it than it may take.

    <cache>/<sha256>/...        whole
    <cache>/<sha256>.part/...   on its way, or what an attempt that was cut short has left
    <cache>/<sha256>.lock       held by whoever uses or fetches it; in it, for how many bytes there must be room
    <cache>/room                held for the moment in which room is made and reserved

The cache is TRAINYARD_CACHE, or trainyard/ in the user's cache folder. What is in it is named by the hash of all its content,
so it is never something else. What is in use stays, and of the rest the least recently used goes first.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from trainyard.data.packed import file_sha256
from trainyard.errors import IntegrityError, MachineError
from trainyard.file_lock import take, wait_for
from trainyard.files import flush
from trainyard.training.store import Store

ATTEMPTS = 3
"""How often a file is fetched anew that came damaged."""
ROOM = "room"
Told = Callable[[], object]
"""Is called whenever something more has come."""


class Content(Protocol):
    """Something that a node may have to fetch."""

    sha256: str
    """Its name in the cache."""
    what: str
    """For people."""

    def is_in(self, folder: Path) -> bool:
        """Say whether a folder holds it."""

    def bytes_needed(self, part: Path) -> int:
        """Return how many bytes it has; what is fetched to know that goes to `part`."""

    def fetch(self, part: Path, told: Told) -> None:
        """Bring it into a folder, which may hold what an earlier attempt has brought."""


@contextmanager
def kept(content: Content, limit: int, told: Told) -> Iterator[Path]:
    """Return a folder of the cache that holds some content, which stays as it is within the block; fetch it if need be.

    Args:
        content: what is needed.
        limit: most bytes that the cache may take.
        told: is called whenever something more of it has come.

    Raises:
        MachineError: the cache is too small or full.
        ServiceError, IntegrityError: as `content` raises them.
    """
    cache = cache_folder()
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((cache / f"{content.sha256}.lock").open("a", encoding="utf-8"))
            folder = _held(content, cache, lock, limit, told)
        except OSError as error:
            what = f"{error.filename or cache}: {error.strerror or error}"
            raise MachineError(
                f"{socket.gethostname()}: {what}; make room there, or writable, then run the same command again"
            ) from error
        yield folder


def cache_folder() -> Path:
    """Return where this node keeps what it has fetched."""
    if place := os.environ.get("TRAINYARD_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "data"


def fetch_file(store: Store, name: str, path: Path, expected: str, told: Told) -> None:
    """Bring one file from a store, unless it is there.

    Raises:
        IntegrityError: what lies in the store has not the hash that is expected.
        ServiceError: the store does not answer.
    """
    if path.is_file() and file_sha256(path) == expected:
        told()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(ATTEMPTS):
        try:
            if store.fetch(name, path, told) == expected:
                flush(path)
                return
        except FileNotFoundError:
            break
    path.unlink(missing_ok=True)
    raise IntegrityError(f"{store.address}/{name}: is not what it should be; delete {store.address} and run again")


def _held(content: Content, cache: Path, lock: IO[str], limit: int, told: Told) -> Path:
    """Return the folder of some content, whole, and held by a shared lock from now on."""
    folder = cache / content.sha256
    while True:
        wait_for(lock, shared=True)
        if content.is_in(folder):
            # Used now: the others go first.
            os.utime(lock.name)
            return folder
        # One process of the node fetches; the others wait here, and find it done.
        wait_for(lock)
        if not content.is_in(folder):
            part = cache / f"{content.sha256}.part"
            part.mkdir(exist_ok=True)
            _reserve(content, cache, lock, content.bytes_needed(part), limit)
            content.fetch(part, told)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)


def _reserve(content: Content, cache: Path, lock: IO[str], needed: int, limit: int) -> None:
    """Delete what was least recently used until there is room for some content, and keep that room from others.

    Raises:
        MachineError: it does not fit.
    """
    with (cache / ROOM).open("a") as room:
        # Two that each looked for themselves would both find the same room.
        wait_for(room)
        others = sorted(
            (path for path in cache.glob("*.lock") if path.stem != content.sha256), key=lambda path: path.stat().st_mtime
        )
        held = sum(_size(cache, path.stem) for path in others)
        for path in others:
            if held + needed <= limit:
                break
            held -= drop(cache, path)
        if held + needed > limit:
            raise MachineError(
                f"{socket.gethostname()}: {cache}: {content.what} need {needed / 1e9:.2f} GB, and {held / 1e9:.2f} of "
                f"{limit / 1e9:g} GB are in use; raise cluster.data_cache_gigabytes"
            )
        lock.truncate(0)
        lock.write(str(needed))
        lock.flush()


def drop(cache: Path, lock_path: Path) -> int:
    """Delete some content, unless a process uses it; return how many bytes that gives back."""
    with lock_path.open("a") as lock:
        if not take(lock):
            return 0
        size = _size(cache, lock_path.stem)
        # Under another name first: what is left of a deletion that was cut short is no content. The lock stays: others may
        # wait for it.
        with suppress(FileNotFoundError):
            part = cache / f"{lock_path.stem}.part"
            shutil.rmtree(part, ignore_errors=True)
            os.replace(cache / lock_path.stem, part)
            shutil.rmtree(part, ignore_errors=True)
        lock.truncate(0)
        return size


def _size(cache: Path, sha256: str) -> int:
    """Return how many bytes some content takes, or may still take."""
    folders = (cache / sha256, cache / f"{sha256}.part")
    there = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    try:
        return max(there, int((cache / f"{sha256}.lock").read_text(encoding="utf-8")))
    except ValueError:
        return there
