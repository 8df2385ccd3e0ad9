"""The weights that a training begins with, on every node: where the project's folder is seen, or fetched from the storage.

<storage>/weights/<sha256>/weights.safetensors, sha256     put there by the driver, the second one last
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainyard.data.packed import file_sha256
from trainyard.errors import MachineError, ServiceError
from trainyard.training.job import FitJob
from trainyard.training.node_cache import Told, fetch_file, kept
from trainyard.training.store import Store, open_store, put

FILE, WHOLE = "weights.safetensors", "sha256"


def publish_weights(job: FitJob) -> None:
    """Put the weights that a job begins with into its storage, unless they are there.

    Raises:
        ServiceError: the storage does not answer.
        OSError: the storage is a folder, and full or read-only.
    """
    if job.weights is None or job.weights_sha256 is None:
        return
    store = open_store(str(job.storage), "weights", job.weights_sha256)
    with suppress(FileNotFoundError):
        if store.read(WHOLE).decode() == job.weights_sha256:
            return
    with job.weights.open("rb") as source:
        store.write(FILE, lambda target: shutil.copyfileobj(source, target, 2**20))
    put(store, WHOLE, job.weights_sha256.encode())


@contextmanager
def weights_here(job: FitJob, told: Told) -> Iterator[Path | None]:
    """Return a file of this node with the weights that a job begins with, None where it begins with none.

    Args:
        job: whose weights they are.
        told: is called whenever more of them has come.

    Raises:
        MachineError: the node does not see them and there is no storage, or its cache is too small or full.
        ServiceError: the storage does not answer, or has them not.
        IntegrityError: what lies in the storage is not what the driver has.
    """
    if job.weights is None or job.weights_sha256 is None or is_file_of(job.weights, job.weights_sha256):
        yield job.weights
        return
    if job.storage is None:
        raise MachineError(
            f"{socket.gethostname()}: {job.weights} (train.start_from.weights) is not there, or is not what the driver has; "
            "put it there, or set cluster.storage in params.yaml to a place from which all nodes fetch it"
        )
    with kept(_Weights(job.storage, job.weights_sha256), job.cache_bytes, told) as folder:
        yield folder / FILE


def is_file_of(path: Path, sha256: str) -> bool:
    """Say whether this node has a file at a path, and of this hash."""
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False


class _Weights:
    """Weights in a storage."""

    what = "the weights of train.start_from"

    def __init__(self, storage: str, sha256: str) -> None:
        self.sha256 = sha256
        self.store: Store = open_store(storage, "weights", sha256)

    def is_in(self, folder: Path) -> bool:
        return is_file_of(folder / FILE, self.sha256)

    def bytes_needed(self, part: Path) -> int:
        size = self.store.size(FILE)
        if size is None:
            raise ServiceError(f"{self.store.address}: holds no {FILE}; run the same command again to put it there")
        return size

    def fetch(self, part: Path, told: Told) -> None:
        fetch_file(self.store, FILE, part / FILE, self.sha256, told)
