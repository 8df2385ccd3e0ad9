"""What every node of a cluster needs before a training: a place from which it gets the data that it does not see."""

from __future__ import annotations

from collections.abc import Callable

from trainyard.errors import MachineError
from trainyard.training.job import FitJob
from trainyard.training.node_data import is_visible, publish
from trainyard.training.node_weights import is_file_of, publish_weights

Ask = Callable[..., list[bool]]
"""Takes a question and its arguments, and returns what each living node answers."""


def publish_where_needed(job: FitJob, ask: Ask) -> None:
    """Put packed data and weights to begin with into the storage if any node of the cluster does not see them where they are.

    Raises:
        ServiceError: the storage does not answer.
        MachineError: the storage is a folder, and full or read-only.
    """
    if job.storage is None:
        return
    try:
        if job.data_sha256 is not None and not all(ask(is_visible, job.data_dir, job.data_sha256)):
            publish(job)
        if job.weights_sha256 is not None and not all(ask(is_file_of, job.weights, job.weights_sha256)):
            publish_weights(job)
    except OSError as error:
        raise MachineError(f"cluster.storage: {error}; make room there, or writable, then run again") from error
