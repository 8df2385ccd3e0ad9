"""The checkpoint that a training continues from: rank 0 finds it, and all workers take the same one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed

from trainyard.errors import MachineError, TrainyardError
from trainyard.training.checkpoint import Newest, fetch, named, newest, read_state
from trainyard.training.job import FitJob
from trainyard.training.store import Store


class _Choice(NamedTuple):
    """What rank 0 says to the others."""

    problem: TrainyardError | None
    name: str | None = None
    sha256: str = ""


def restore(job: FitJob, store: Store, rank: int) -> Newest | None:
    """Return the newest valid checkpoint of a job, the same on all workers, or None before its first one.

    All workers call it together, and all of them raise when one cannot go on.

    Raises:
        IntegrityError: there are checkpoints, and none is valid.
        ServiceError: the store does not answer.
        MachineError: a worker's node does not see what rank 0's sees.
    """
    path = job.scratch_dir / f"restored-{rank}.ckpt"
    if rank != 0:
        return _same(store, _from_rank_0(_Choice(None)), path)
    found, choice = None, _Choice(None)
    try:
        found = newest(store, job.fingerprint, path, job.recipe.train.keep)
    except TrainyardError as error:
        choice = _Choice(error)
    except OSError as error:
        choice = _Choice(MachineError(f"{store.address}: cannot be read ({error}); make it readable, then run again"))
    if found is not None:
        choice = _Choice(None, found.checkpoint.name, found.checkpoint.sha256)
    _from_rank_0(choice)
    _agree(choice.problem)
    return found


def _same(store: Store, choice: _Choice, path: Path) -> Newest | None:
    """Return the checkpoint that rank 0 has chosen, as this worker's node sees it."""
    found, problem = None, choice.problem
    here = f"{socket.gethostname()}: {store.address}"
    try:
        if choice.name is not None:
            chosen = named(store, choice.name)
            if chosen is None or chosen.sha256 != choice.sha256:
                raise MachineError(
                    f"{here} does not hold {choice.name}, which rank 0 found there; set cluster.storage to a place that all "
                    "nodes share"
                )
            found = Newest(chosen, fetch(chosen, path), [])
    except TrainyardError as error:
        problem = error
    except OSError as error:
        problem = MachineError(f"{here} cannot be read ({error}); make it readable, then run again")
    _agree(problem)
    return found


def keeper_state(found: Newest) -> dict[str, Any]:
    """Return what the keeper had saved of itself."""
    state: dict[str, Any] = read_state(found.state)["callbacks"]["Keeper"]
    return state


def _from_rank_0(choice: _Choice) -> _Choice:
    if not torch.distributed.is_initialized():
        return choice
    box = [choice]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _agree(problem: TrainyardError | None) -> None:
    """Raise the first problem of all workers, on each of them."""
    problems = [problem]
    if torch.distributed.is_initialized():
        problems *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise found
