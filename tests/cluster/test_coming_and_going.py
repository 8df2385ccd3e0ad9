"""Hosts that come back, heads and drivers that do not, slow links: each fault takes a minute or more."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.cluster.clusters import EPOCHS, Cluster, Training
from tests.cluster.hosts import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(1800)]


def take_spare_away(cluster: Cluster) -> None:
    """Leave two hosts, so that two workers need both."""
    cluster.hosts["south"].kill()


def test_a_fixed_number_of_workers_waits_for_its_host_to_come_back(cluster: Cluster, undisturbed: Training) -> None:
    take_spare_away(cluster)
    training = cluster.train("back")
    host = training.catch_host()
    host.kill()
    wait_for(lambda: f"node {host.name} ({host.address}) has left the cluster" in training.said, "the loss to be noticed")
    assert training.runs()
    cluster.restore()
    training.end()
    training.assert_same_end(undisturbed)


def test_hosts_that_stay_away_end_the_run_and_it_can_be_continued(cluster: Cluster, undisturbed: Training) -> None:
    take_spare_away(cluster)
    training = cluster.train("away", lost_node_seconds=5)
    host = training.catch_host()
    host.kill()
    said = training.end(75)
    assert "the cluster has had room for fewer than 2 workers for 5 s" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    cluster.restore()
    training.start()
    assert "continues after epoch" in training.end()
    training.assert_same_end(undisturbed)


def test_a_host_that_is_back_at_once_is_counted_once(cluster: Cluster, undisturbed: Training) -> None:
    take_spare_away(cluster)
    training = cluster.train("flap")
    host = training.catch_host()
    host.kill()
    # At once: Ray may still count on the node that was here before.
    host.switch_on()
    cluster.join(host.name)
    training.end()
    addresses = [address for address, _ in cluster.nodes()]
    assert len(addresses) == len(set(addresses))
    training.assert_same_end(undisturbed)


@pytest.mark.parametrize("seconds", [1, 5])
def test_a_link_that_is_cut_for_seconds_changes_nothing(cluster: Cluster, undisturbed: Training, seconds: int) -> None:
    training = cluster.train(f"cut-{seconds}")
    host = cluster.host_of_a_worker()
    host.cut()
    assert training.runs()
    time.sleep(seconds)
    host.mend()
    training.end()
    training.assert_same_end(undisturbed)


def test_an_elastic_training_shrinks_and_grows_and_sees_the_same(cluster: Cluster) -> None:
    """Long enough that a host can start, and be noticed, before it is over."""
    take_spare_away(cluster)
    epochs = 20 * EPOCHS
    training = cluster.train("elastic", epochs=epochs, workers=[1, 2])
    host = training.catch_host()
    host.kill()
    training.resumed()
    assert {name: len(pids) for name, pids in cluster.workers().items() if pids} == {"head": 1}
    cluster.restore()
    wait_for(lambda: sum(map(len, cluster.workers().values())) == 2 or not training.runs(), "two workers")
    assert training.runs(), "it was over before it grew"
    training.end()
    assert sum(record.resumed for record in training.records) >= 2
    fixed = Training(cluster, "fixed", epochs=epochs, workers=2, address="local")
    fixed.start()
    fixed.end()
    training.assert_same_losses(fixed)


def test_a_lost_head_ends_the_run_and_a_new_one_continues_it(cluster: Cluster, undisturbed: Training) -> None:
    training = cluster.train("headless")
    (server,) = cluster.head.processes("gcs/gcs_server")
    training.catch_host()
    os.kill(server.pid, signal.SIGKILL)
    said = training.end(75)
    assert f"the head of the cluster, {cluster.address}, has not answered for" in said
    assert "Traceback" not in said
    cluster.renew()
    training.start()
    assert "continues after epoch" in training.end()
    training.assert_same_end(undisturbed)


def test_a_killed_driver_leaves_no_worker_and_continues(cluster: Cluster, undisturbed: Training) -> None:
    training = cluster.train("driverless")
    assert training.runs()
    for process in cluster.head.processes("driver.py"):
        process.kill()
    killed = time.monotonic()
    wait_for(lambda: not any(cluster.workers().values()), "the end of the workers")
    # Promised are 10 s.
    assert time.monotonic() - killed < 50
    training.end(-9)
    training.start()
    assert "continues after epoch" in training.end()
    training.assert_same_end(undisturbed)


def test_slow_links_change_nothing_but_the_time(cluster: Cluster, undisturbed: Training) -> None:
    if shutil.which("tc") is None:
        pytest.skip("this machine has no `tc`")
    training = cluster.train("slow", until=1)
    for host in cluster.hosts.values():
        host.slow("1mbit")
    assert training.runs()
    try:
        training.end()
    finally:
        for host in cluster.hosts.values():
            host.quicken()
    training.assert_same_end(undisturbed)


def test_a_frozen_host_is_done_without_and_its_old_worker_writes_no_more(cluster: Cluster, undisturbed: Training) -> None:
    """Frozen as a machine that swaps or is moved: every connection stays, and later everything goes on at once."""
    training = cluster.train("frozen")
    host = training.catch_host()
    training.resumed()
    host.thaw()
    training.end()
    training.assert_same_end(undisturbed)


def test_a_host_about_to_be_taken_away_is_left_before(cluster: Cluster, undisturbed: Training) -> None:
    # Asked for before the training, which is to go on for as long as Ray's command takes to start.
    nodes = dict(cluster.nodes())
    training = cluster.train("drained")
    host = cluster.host_of_a_worker()
    assert training.runs()
    try:
        cluster.drain(nodes[host.address])
        said = training.end()
        assert f"node {host.name} ({host.address}) is about to be taken away" in said
        assert "saves at the next step, and goes on without that node" in said
        assert "continues after epoch" in said
        assert not cluster.workers()[host.name]
        training.assert_same_end(undisturbed)
    finally:
        host.kill()
