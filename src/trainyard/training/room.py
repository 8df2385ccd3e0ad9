"""How many workers there is room for. Knows no Ray, which is met only where they start."""

from __future__ import annotations

from dataclasses import replace

from trainyard.params import ParamsError
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import gpus, processors


def count_workers(cluster: ClusterConfig, address: str) -> int:
    """Return how many workers train on this machine; on a cluster, how many at most if that is known before it is met.

    Raises:
        ParamsError: this machine is to run more workers than it has processors or GPUs for.
    """
    if cluster.workers == 0:
        return 0
    if address != "local":
        return 1 if cluster.workers == "auto" else cluster.most
    room = processors() // cluster.threads
    if cluster.workers == "auto":
        return gpus() or min(2, max(1, room))
    least = cluster.least
    if room < least:
        raise ParamsError(
            f"params.yaml: cluster.workers: {least} x cpus_per_worker: {cluster.threads} need "
            f"{least * cluster.threads} processors, this machine has {processors()}; "
            f"use at most {room} workers, or 'auto'"
        )
    if 0 < (have := gpus()) < least:
        raise ParamsError(f"params.yaml: cluster.workers: {least}, this machine has {have} GPUs; use at most {have}, or 'auto'")
    return min(cluster.most, room, gpus() or room)


def shared(cluster: ClusterConfig, workers: int) -> ClusterConfig:
    """Return the settings with this machine's processors shared out among so many workers, where they say `auto`."""
    if cluster.cpus_per_worker != "auto":
        return cluster
    return replace(cluster, cpus_per_worker=max(1, processors() // max(1, workers)))
