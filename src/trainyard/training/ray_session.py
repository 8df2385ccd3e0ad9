"""A Ray for what runs beside or instead of one training: a private one of this process, or the cluster that is asked for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import Interrupted, MachineError, TrainyardError, last_line
from trainyard.training import ray_start
from trainyard.training.cluster_config import ClusterConfig


def address_of(cluster: ClusterConfig) -> str:
    """Return where trainings run: `local`, or a cluster's address."""
    return os.environ.get("RAY_ADDRESS") or cluster.address


@contextmanager
def session(cluster: ClusterConfig, workers: int, *, address: str = "", files: Path | None = None) -> Iterator[Path | None]:
    """Start a private Ray with room for `workers`, or join the cluster, and leave it after the block.

    Given is the private Ray's folder, which is deleted even if this process is killed: by the next one that starts a Ray.

    Args:
        cluster: how it runs.
        workers: that a private Ray is to have room for.
        address: of the cluster; empty: as `address_of` says.
        files: a folder that a cluster's nodes get a copy of, in which what runs there begins.

    Raises:
        MachineError: Ray cannot start here, or the cluster has other versions.
        ServiceError: the cluster does not answer.
        IntegrityError: it lets in anybody, and that is not said to be meant.
    """
    address = address or address_of(cluster)
    folder = ray_start.PrivateFolder() if address == "local" else None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            if folder is not None:
                ray_start.start_private(folder, cluster, workers)
            else:
                ray_start.join(address, cluster.insecure, files)
        except TrainyardError:
            raise
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and more for the same thing
            if folder is None:
                raise
            # What has started of it would go on writing into a folder that is being deleted.
            ray_start.kill_private(folder.path)
            raise MachineError(
                f"Ray could not start on this machine ({last_line(error)}); {ray_start.remedy()}, then run again"
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray has put a handler in its place that writes a stack and dies.
            signal.signal(signal.SIGTERM, handler)
        yield None if folder is None else folder.path
    finally:
        try:
            ray_start.leave()
        except (KeyboardInterrupt, Interrupted):
            # The user has no patience left, or the machine has none.
            if folder is not None:
                ray_start.kill_private(folder.path)
            raise
        finally:
            if folder is not None:
                folder.remove()
