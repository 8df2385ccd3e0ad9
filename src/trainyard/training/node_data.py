"""Packed data on every node: memory-mapped where the node sees the project's folder, otherwise fetched once from the storage.

<storage>/data/<sha256>/card.json, train/images.npy, ...     put there by the driver, the card last
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainyard.data.packed import hashes, read_card
from trainyard.errors import IntegrityError, MachineError, ServiceError
from trainyard.training.job import FitJob
from trainyard.training.node_cache import Told, fetch_file, kept
from trainyard.training.store import Store, open_store, put

CARD = "card.json"


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
def data_here(job: FitJob, told: Told) -> Iterator[Path]:
    """Return a folder of this node with the packed data of a job, which stays as it is within the block.

    Args:
        job: whose data they are.
        told: is called whenever more of them has come.

    Raises:
        MachineError: the node does not see them and there is no storage, or its cache is too small or full.
        ServiceError: the storage does not answer.
        IntegrityError: what lies in the storage is not what the driver has.
    """
    if job.data_sha256 is None or is_visible(job.data_dir, job.data_sha256):
        yield job.data_dir
        return
    if job.storage is None:
        raise MachineError(
            f"{socket.gethostname()}: {job.data_dir} is not there, or is not what the driver has; share this folder with all "
            "nodes, or set cluster.storage in params.yaml to a place from which they fetch the data"
        )
    with kept(_Packed(job.storage, job.data_sha256), job.cache_bytes, told) as folder:
        yield folder


def is_visible(folder: Path, sha256: str) -> bool:
    """Say whether a folder of this node holds the packed data with this hash."""
    try:
        return read_card(folder).sha256 == sha256
    except (IntegrityError, OSError):
        return False


class _Packed:
    """Packed data in a storage."""

    what = "the data"

    def __init__(self, storage: str, sha256: str) -> None:
        self.sha256 = sha256
        self.store: Store = open_store(storage, "data", sha256)

    def is_in(self, folder: Path) -> bool:
        return is_visible(folder, self.sha256)

    def bytes_needed(self, part: Path) -> int:
        try:
            (part / CARD).write_bytes(self.store.read(CARD))
        except FileNotFoundError:
            raise ServiceError(
                f"{self.store.address}: holds no data with this hash; run the same command again to put them there"
            ) from None
        card = read_card(part)
        if card.sha256 != self.sha256 or any(Path(name).is_absolute() or ".." in Path(name).parts for name in hashes(card)):
            address = self.store.address
            raise IntegrityError(f"{address}/{CARD}: is the card of other data; delete {address} and run again")
        return sum(self.store.size(name) or 0 for name in hashes(card))

    def fetch(self, part: Path, told: Told) -> None:
        for name, expected in hashes(read_card(part)).items():
            fetch_file(self.store, name, part / name, expected, told)
