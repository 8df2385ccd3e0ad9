"""What a training would reach on a cluster: samples a second, the interval of its checkpoints, what failures leave of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainyard.scale.interval import Saving, availability, best
from trainyard.scale.step import Cluster, Step, Workload, step


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training on a cluster."""

    gpus: int
    step: Step
    samples_per_second: float
    """While it trains."""
    efficiency: float
    """Of the samples a second that one GPU alone would reach, times the number of GPUs."""
    checkpoint_seconds: float
    """Of work between two checkpoints, at which the least time is lost; what `cluster.checkpoint_seconds` should be."""
    availability: float
    """Share of the time that is work which is not lost to checkpoints, failures and restarts."""

    @property
    def goodput(self) -> float:
        """Samples a second that count, over days."""
        return self.samples_per_second * self.availability


def plan(workload: Workload, cluster: Cluster, costs: Saving, node_days: float) -> Plan:
    """Return what a training would reach.

    Args:
        workload: what a step has to do.
        cluster: what it runs on.
        costs: of checkpoints and restarts.
        node_days: mean days between two failures of one node; any node's failure stops all.
    """
    spent = step(workload, cluster)
    samples = workload.global_batch / spent.seconds
    alone = replace(cluster, nodes=1, gpus_per_node=1)
    between_failures = node_days * 86400 / cluster.nodes
    # A checkpoint is at the end of a step, and the one before it is written by then.
    interval = max(best(costs.stall, between_failures), costs.write - costs.stall, spent.seconds)
    return Plan(
        gpus=cluster.gpus,
        step=spent,
        samples_per_second=samples,
        efficiency=samples / (workload.global_batch / step(workload, alone).seconds * cluster.gpus),
        checkpoint_seconds=interval,
        availability=availability(interval, costs, between_failures),
    )
