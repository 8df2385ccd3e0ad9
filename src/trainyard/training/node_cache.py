"""Packed data on every node: memory-mapped where the node sees the project's folder, otherwise fetched once from the storage.

    <storage>/data/<sha256>/card.json, train/images.npy, ...     put there by the driver, the card last
    <cache>/<sha256>/...     <cache>/<sha256>.part/...     <cache>/<sha256>.lock

The cache is TRAINYARD_CACHE, or trainyard/ in the user's cache folder. A data set is named by the hash of all its content, so
it is never another one; it is held by its lock while a process uses it, and the least recently used ones go first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from trainyard.data.packed import Card, file_sha256, hashes, read_card
from trainyard.errors import IntegrityError, MachineError, ServiceError
from trainyard.files import flush
from trainyard.training.job import FitJob
from trainyard.training.store import Store, open_store, put

CARD = "card.json"
ATTEMPTS = 3
"""How often a file is fetched anew that came damaged."""


def publish(job: FitJob) -> None:
    """Put the packed data of a job into its storage, unless they are there.

    Raises:
        ServiceError: the storage does not answer.
        OSError: the storage is a folder, and full or read-only.
    """
    card = read_card(job.data_dir)
    store = open_store(str(job.storage), "data", card.sha256)
    content = (job.data_dir / CARD).read_bytes()
    with suppress(FileNotFoundError):
        if store.read(CARD) == content:
            return
    for name in hashes(card):
        with (job.data_dir / name).open("rb") as source:
            store.write(name, lambda target, source=source: shutil.copyfileobj(source, target, 2**20))  # type: ignore[misc]
    # The card alone makes them exist.
    put(store, CARD, content)


@contextmanager
def data_here(job: FitJob) -> Iterator[Path]:
    """Return a folder of this node with the packed data of a job, which stays as it is within the block.

    Raises:
        MachineError: the node does not see them and there is no storage, or its cache is too small or full.
        ServiceError: the storage does not answer.
        IntegrityError: what lies in the storage is not what the driver has.
    """
    if job.data_sha256 is None or is_visible(job.data_dir, job.data_sha256):
        yield job.data_dir
        return
    host = socket.gethostname()
    if job.storage is None:
        raise MachineError(
            f"{host}: {job.data_dir} is not there, or is not what the driver has; share this folder with all nodes, or set "
            "cluster.storage in params.yaml to a place from which they fetch the data"
        )
    cache = cache_folder()
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((cache / f"{job.data_sha256}.lock").open("a"))
            folder = _held(job, cache, lock)
        except OSError as error:
            what = f"{error.filename or cache}: {error.strerror or error}"
            raise MachineError(f"{host}: {what}; make room there, or writable, then run the same command again") from error
        yield folder


def is_visible(folder: Path, sha256: str) -> bool:
    """Say whether a folder of this node holds the packed data with this hash."""
    try:
        return read_card(folder).sha256 == sha256
    except (IntegrityError, OSError):
        return False


def cache_folder() -> Path:
    """Return where this node keeps data that it has fetched."""
    if place := os.environ.get("TRAINYARD_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "data"


def _held(job: FitJob, cache: Path, lock: IO[str]) -> Path:
    """Return the folder of the data, whole, and held by a shared lock from now on."""
    sha256 = str(job.data_sha256)
    folder = cache / sha256
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if is_visible(folder, sha256):
            # Used now: the others go first.
            os.utime(lock.name)
            return folder
        # One process of the node fetches; the others wait here, and find it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_visible(folder, sha256):
            _fetch(job, cache)


def _fetch(job: FitJob, cache: Path) -> None:
    """Bring the data into the cache; what an earlier attempt has brought is kept where its hash is right."""
    sha256 = str(job.data_sha256)
    store = open_store(str(job.storage), "data", sha256)
    part = cache / f"{sha256}.part"
    part.mkdir(exist_ok=True)
    card = _card(store, part, sha256)
    sizes = [store.size(name) or 0 for name in hashes(card)]
    _make_room(cache, sha256, sum(sizes), int(job.data_cache_gigabytes * 1e9))
    for name, expected in hashes(card).items():
        _fetch_file(store, name, part / name, expected)
    shutil.rmtree(cache / sha256, ignore_errors=True)
    os.replace(part, cache / sha256)


def _card(store: Store, part: Path, sha256: str) -> Card:
    try:
        (part / CARD).write_bytes(store.read(CARD))
    except FileNotFoundError:
        raise ServiceError(
            f"{store.address}: holds no data with this hash; run the same command again to put them there"
        ) from None
    card = read_card(part)
    if card.sha256 != sha256 or any(Path(name).is_absolute() or ".." in Path(name).parts for name in hashes(card)):
        raise IntegrityError(f"{store.address}/{CARD}: is the card of other data; delete {store.address} and run again")
    return card


def _fetch_file(store: Store, name: str, path: Path, expected: str) -> None:
    if path.is_file() and file_sha256(path) == expected:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(ATTEMPTS):
        try:
            if store.fetch(name, path) == expected:
                flush(path)
                return
        except FileNotFoundError:
            break
    path.unlink(missing_ok=True)
    raise IntegrityError(f"{store.address}/{name}: is not what its card says; delete {store.address} and run again")


def _make_room(cache: Path, sha256: str, needed: int, limit: int) -> None:
    """Delete the least recently used data until these fit; those in use stay.

    Raises:
        MachineError: they do not fit.
    """
    others = sorted((path for path in cache.glob("*.lock") if path.stem != sha256), key=lambda path: path.stat().st_mtime)
    held = sum(_size(cache, path.stem) for path in others)
    for path in others:
        if held + needed <= limit:
            break
        held -= _drop(cache, path)
    if held + needed > limit:
        raise MachineError(
            f"{socket.gethostname()}: {cache}: the data need {needed / 1e9:.2f} GB, and {held / 1e9:.2f} of {limit / 1e9:g} GB "
            "are in use; raise cluster.data_cache_gigabytes"
        )


def _drop(cache: Path, lock_path: Path) -> int:
    """Delete one data set, unless a process uses it; return how many bytes that gives back."""
    with lock_path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        size = _size(cache, lock_path.stem)
        # The card first: what is left of a deletion that was cut short is no data set. The lock stays: others may wait for it.
        for suffix in ("", ".part"):
            (cache / f"{lock_path.stem}{suffix}" / CARD).unlink(missing_ok=True)
            shutil.rmtree(cache / f"{lock_path.stem}{suffix}", ignore_errors=True)
        return size


def _size(cache: Path, sha256: str) -> int:
    folders = (cache / sha256, cache / f"{sha256}.part")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
