"""A plan puts a step and its failures together."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from trainyard.scale.interval import Saving, young
from trainyard.scale.plan import plan
from trainyard.scale.reduction import Link
from trainyard.scale.step import Cluster, Workload

WORKLOAD = Workload(sample_seconds=0.005, gradient_bytes=100e6, global_batch=8192)
CLUSTER = Cluster(
    nodes=32,
    gpus_per_node=8,
    network=Link(bytes_per_second=6.25e9, latency_seconds=30e-6),
    local=Link(bytes_per_second=20e9, latency_seconds=5e-6),
)
COSTS = Saving(stall=2.0, write=20.0, restart=120.0)


def test_more_nodes_are_faster_and_less_efficient_and_fail_more_often() -> None:
    plans = [plan(WORKLOAD, replace(CLUSTER, nodes=nodes), COSTS, node_days=100) for nodes in (1, 2, 8, 32)]
    assert [found.gpus for found in plans] == [8, 16, 64, 256]
    for fewer, more in pairwise(plans):
        assert more.goodput > fewer.goodput
        assert more.efficiency < fewer.efficiency < 1
        assert more.availability < fewer.availability < 1
        assert more.checkpoint_seconds < fewer.checkpoint_seconds


def test_the_interval_is_that_of_all_nodes_together() -> None:
    found = plan(WORKLOAD, CLUSTER, COSTS, node_days=100)
    assert found.checkpoint_seconds == pytest.approx(young(2.0, 100 * 86400 / 32), rel=0.02)


def test_a_checkpoint_waits_until_the_one_before_it_is_written() -> None:
    found = plan(WORKLOAD, CLUSTER, replace(COSTS, write=5000.0), node_days=100)
    assert found.checkpoint_seconds == 4998.0
