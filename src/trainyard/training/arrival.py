"""What a worker needs before it trains: the driver's storage, data, weights to begin with; all workers together, or none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch.distributed

from trainyard.errors import MachineError, TrainyardError
from trainyard.training.job import MARK, FitJob
from trainyard.training.node_cache import Told
from trainyard.training.node_data import data_here
from trainyard.training.node_weights import weights_here

ROUND_SECONDS = 5.0
"""Between two times that workers ask each other; far less than what a group of processes waits for one of them."""


@contextmanager
def ready(job: FitJob, told: Told) -> Iterator[FitJob]:
    """Return the job as it is on this node, once all workers have what they need; every worker calls it.

    Args:
        job: as the driver knows it.
        told: is called, in another thread, whenever more of what this node has to fetch has come.

    Raises:
        MachineError: the node of one of them does not see the storage, or the data, or has no room.
        ServiceError: the storage does not answer.
        IntegrityError: what lies there is not what the driver has.
    """
    with ExitStack() as stack:
        outcome: list[FitJob | TrainyardError] = []
        done = threading.Event()

        def prepare() -> None:
            try:
                outcome.append(_prepared(job, stack, told))
            except TrainyardError as error:
                outcome.append(error)
            except Exception as error:
                # Whatever it is, the other workers must hear of it.
                outcome.append(MachineError(f"{socket.gethostname()}: {type(error).__name__}: {error}"))
            done.set()

        threading.Thread(target=prepare, name="arrival", daemon=True).start()
        while not _all_have(outcome, done):
            pass
        (own,) = outcome
        if isinstance(own, TrainyardError):
            raise own
        yield own


def _prepared(job: FitJob, stack: ExitStack, told: Told) -> FitJob:
    host = socket.gethostname()
    try:
        job.scratch_dir.mkdir(parents=True, exist_ok=True)
        store = job.store()
        if job.storage_mark is not None and store.read(MARK) != job.storage_mark.encode():
            raise FileNotFoundError
    except FileNotFoundError:
        raise MachineError(
            f"{host}: {store.address} is not the folder that the driver sees there; mount it on this node as well, or set "
            "cluster.storage to an address that all nodes reach"
        ) from None
    except OSError as error:
        raise MachineError(f"{host}: {error.filename}: {error.strerror or error}; make it readable and writable") from error
    return replace(
        job, data_dir=stack.enter_context(data_here(job, told)), weights=stack.enter_context(weights_here(job, told))
    )


def _all_have(outcome: list[FitJob | TrainyardError], done: threading.Event) -> bool:
    """Return whether all workers are ready; raise the problem of any of them."""
    if not torch.distributed.is_initialized():
        return done.wait(ROUND_SECONDS)
    done.wait(ROUND_SECONDS)
    own = outcome[0] if outcome else None
    said = [(bool(outcome), own if isinstance(own, TrainyardError) else None)] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, said[0])
    for _, problem in said:
        if problem is not None:
            raise problem
    return all(has for has, _ in said)
