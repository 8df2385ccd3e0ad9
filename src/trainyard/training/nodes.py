"""Ask every node of a cluster something."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trainyard.errors import MachineError
from trainyard.training.job import FitJob
from trainyard.training.node_cache import is_visible, publish

ANSWER_SECONDS = 60.0
"""Longest that nodes may take to start a process and answer; one that takes longer counts as one that says no."""


def publish_where_needed(job: FitJob) -> None:
    """Put the packed data into the storage if any node of the cluster does not see them where they are.

    Raises:
        ServiceError: the storage does not answer.
        MachineError: the storage is a folder, and full or read-only.
    """
    if job.storage is not None and job.data_sha256 is not None and not all(_asked(is_visible, job.data_dir, job.data_sha256)):
        try:
            publish(job)
        except OSError as error:
            raise MachineError(f"cluster.storage: {error}; make room there, or writable, then run again") from error


def _asked(question: Callable[..., bool], *arguments: Any) -> list[bool]:
    """Return what each living node answers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    answers = [ask.options(scheduling_strategy=place).remote(*arguments) for place in places]
    with suppress(ray.exceptions.RayError):
        return list(ray.get(answers, timeout=ANSWER_SECONDS))
    return [False]
