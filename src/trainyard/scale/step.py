"""How long an optimizer step takes on so many GPUs: computing, and what of the gradients' sum does not fit behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from trainyard.scale.reduction import Link, Reduction, halving_doubling, ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one step has to do, whatever it runs on."""

    sample_seconds: float
    """Forward and backward pass of one sample on one GPU."""
    gradient_bytes: float
    """Of all parameters, as they are summed."""
    global_batch: int
    """Samples of an optimizer step."""
    bucket_bytes: float = 25 * 2**20
    """Of gradients that are summed together; as torch's DistributedDataParallel has it (arXiv:2006.15704)."""
    micro_batch: int | None = None
    """Most samples that a GPU computes at once; what is more is accumulated, and summed over GPUs once. None: all."""
    backward_share: float = 2 / 3
    """Of the computing; a backward pass multiplies twice as many matrices as a forward pass."""
    early_share: float = 0.0
    """Of the gradient bytes, those that are there when the backward pass has hardly begun: fully connected last layers."""
    step_seconds: float = 0.0
    """Of each step, beside the samples: the optimizer, and the start of kernels."""
    overlapped: bool = True
    """Whether sums run beside the backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What it runs on."""

    nodes: int
    gpus_per_node: int
    network: Link
    """Of a node, all its cards together."""
    local: Link
    """Between the GPUs of a node."""
    between: Reduction = halving_doubling
    """How nodes sum."""
    jitter: float = 0.0
    """Standard deviation of the time one GPU computes, as a share of it. All wait for the last."""

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where the time of a step goes, in seconds."""

    computing: float
    """Of a GPU with the largest share of the batch."""
    waiting: float
    """For the slowest GPU."""
    summing: float
    """All sums, if nothing else ran."""
    exposed: float
    """What of them comes after the last gradient."""

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.computing + self.waiting + self.exposed


def step(workload: Workload, cluster: Cluster) -> Step:
    """Return what a step takes.

    Gradients become ready evenly over the last micro-batch's backward pass, after those that are early. A bucket is summed
    within each node as soon as it is ready and the links there are free, and then between the nodes as soon as the network is:
    so one bucket crosses the network while the next one is summed within the nodes. The GPUs of a node share its network link,
    each with its part of the bucket, which the node sends once.
    """
    share = math.ceil(workload.global_batch / cluster.gpus)
    computing = share * workload.sample_seconds + workload.step_seconds
    backward = workload.backward_share * min(share, workload.micro_batch or share) * workload.sample_seconds
    buckets = max(1, math.ceil(workload.gradient_bytes / workload.bucket_bytes))
    size = workload.gradient_bytes / buckets
    within = ring(cluster.gpus_per_node, size, cluster.local)
    between = cluster.between(cluster.nodes, size, cluster.network)
    local_free = free = 0.0
    for bucket in range(1, buckets + 1):
        local_free = max(local_free, _ready(bucket / buckets, workload) * backward) + within
        free = max(free, local_free) + between
    return Step(
        computing=computing,
        waiting=computing * cluster.jitter * slowest(cluster.gpus),
        summing=buckets * max(within, between) + min(within, between),
        exposed=max(0.0, free - backward),
    )


def slowest(gpus: int) -> float:
    """Return by how many standard deviations the slowest of so many is expected to be late (Blom 1958), were they normal."""
    return NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25)) if gpus > 1 else 0.0


def _ready(share: float, workload: Workload) -> float:
    """Return after what part of the backward pass a share of the gradient bytes is ready."""
    if not workload.overlapped:
        return 1.0
    return max(0.0, share - workload.early_share) / (1.0 - workload.early_share) if workload.early_share < 1 else 0.0
