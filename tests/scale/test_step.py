"""What a step takes: sums by hand, and what must be so on any cluster."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from trainyard.scale.reduction import Link, double_tree, halving_doubling, ring
from trainyard.scale.step import Cluster, Workload, slowest, step

FREE = Link(bytes_per_second=1e30, latency_seconds=0.0)
NETWORK = Link(bytes_per_second=1e9, latency_seconds=1e-3)
ALONE = Cluster(nodes=1, gpus_per_node=1, network=NETWORK, local=FREE)
# 8 samples a GPU of 4 at 30 ms: 240 ms, of which 160 ms backward.
WORKLOAD = Workload(sample_seconds=0.03, gradient_bytes=100e6, global_batch=32, bucket_bytes=50e6)
FOUR = replace(ALONE, nodes=4, between=ring)


def test_a_ring_sends_each_byte_twice_in_as_many_messages_as_there_are_processes() -> None:
    # 6 messages of 25 MB at 1 GB/s and 1 ms each.
    assert ring(4, 100e6, NETWORK) == pytest.approx(6 * (0.025 + 0.001))
    assert ring(1, 100e6, NETWORK) == 0.0


def test_halving_and_doubling_sends_the_bytes_of_a_ring_in_fewer_messages() -> None:
    assert ring(1024, 100e6, NETWORK) - halving_doubling(1024, 100e6, NETWORK) == pytest.approx((2046 - 20) * 0.001)
    assert halving_doubling(1, 100e6, NETWORK) == 0.0


def test_trees_are_faster_than_rings_for_small_buffers_and_no_faster_for_large_ones() -> None:
    assert double_tree(1024, 1e6, NETWORK) < ring(1024, 1e6, NETWORK) / 50
    assert double_tree(8, 10e9, NETWORK) > ring(8, 10e9, NETWORK)
    assert double_tree(1, 1e6, NETWORK) == 0.0


def test_one_gpu_alone_only_computes() -> None:
    found = step(WORKLOAD, ALONE)
    assert (found.seconds, found.exposed, found.waiting) == (pytest.approx(0.96), 0.0, 0.0)


def test_what_does_not_fit_behind_the_backward_pass_is_added() -> None:
    # The first bucket is ready half way, at 80 ms of 160 ms, and summed at 161 ms; the second one is summed after it.
    each = 6 * (0.0125 + 0.001)
    found = step(WORKLOAD, FOUR)
    assert found.computing == pytest.approx(0.24)
    assert found.exposed == pytest.approx(0.08 + 2 * each - 0.16)
    assert found.summing == pytest.approx(2 * each)


def test_without_overlap_all_sums_are_added() -> None:
    found = step(replace(WORKLOAD, overlapped=False), FOUR)
    assert found.exposed == pytest.approx(found.summing)


def test_gradients_of_the_last_layers_are_summed_from_the_start_of_the_backward_pass() -> None:
    each = 6 * (0.0125 + 0.001)
    found = step(replace(WORKLOAD, early_share=0.5), FOUR)
    assert found.exposed == pytest.approx(max(each, 0.16) + each - 0.16)


def test_a_bucket_crosses_the_network_while_the_next_is_summed_within_the_nodes() -> None:
    slow = Link(bytes_per_second=1e9, latency_seconds=0.0)
    cluster = Cluster(nodes=4, gpus_per_node=4, network=slow, local=slow, between=ring)
    work = replace(WORKLOAD, global_batch=128, overlapped=False)
    each = 6 * 0.0125
    assert step(work, cluster).exposed == pytest.approx(3 * each)  # two buckets through two stages
    assert step(work, cluster).summing == pytest.approx(3 * each)


def test_only_the_last_micro_batch_hides_sums() -> None:
    whole, small = step(WORKLOAD, FOUR), step(replace(WORKLOAD, micro_batch=1), FOUR)
    assert small.computing == whole.computing
    assert small.exposed > whole.exposed


def test_the_gpu_with_the_largest_share_of_an_uneven_batch_sets_the_pace() -> None:
    assert step(replace(WORKLOAD, global_batch=33), FOUR).computing == pytest.approx(9 * 0.03)


def test_the_slowest_of_many_is_as_late_as_normal_draws_say() -> None:
    random = Random(0)
    for gpus in (2, 8, 256):
        late = [max(random.gauss() for _ in range(gpus)) for _ in range(2000)]
        assert slowest(gpus) == pytest.approx(sum(late) / len(late), abs=0.06)


def test_all_wait_for_the_slowest() -> None:
    calm, uneven = step(WORKLOAD, FOUR), step(WORKLOAD, replace(FOUR, jitter=0.05))
    assert uneven.seconds - calm.seconds == pytest.approx(0.05 * 0.24 * slowest(4))
