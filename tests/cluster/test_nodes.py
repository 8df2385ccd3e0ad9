"""Trainings on several hosts, of which one is lost, cut off or comes back."""

from __future__ import annotations

import sys

import pytest

from tests.cluster.clusters import EPOCHS, Cluster, Training
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_workers_on_two_hosts_train_as_on_one(cluster: Cluster, undisturbed: Training) -> None:
    """Only the head has the project, and each host's own name means 127.0.1.1 to it."""
    training = cluster.train("two-hosts", until=1)
    assert sorted(len(pids) for pids in cluster.workers().values()) == [0, 1, 1]
    training.end()
    training.assert_same_end(undisturbed)


def test_a_host_that_dies_is_replaced_and_the_end_is_bit_identical(cluster: Cluster, undisturbed: Training) -> None:
    training = cluster.train("killed")
    host = training.catch_host()
    host.kill()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    assert "continues after epoch" in said
    training.assert_same_end(undisturbed)


def test_a_driver_with_only_an_object_store_in_common_gets_each_point_once(cluster: Cluster, undisturbed: Training) -> None:
    """Each host, and the driver, sees a folder of its own where the others have theirs."""
    with S3Server(cluster.head.address, cluster.head.enter()) as server:
        make = f"import urllib.request as web; web.urlopen(web.Request('{server.url}/bucket', method='PUT'))"
        cluster.head.run(sys.executable, "-c", make)
        training = Training(cluster, "apart", epochs=EPOCHS, workers=2, storage="s3://bucket/runs")
        training.keep_apart()
        keys = server.environment()
        training.environment |= {**keys, "TRAINYARD_HANDED_ON": ",".join(keys)}
        training.start()
        training.reach(2)
        training.catch_host().kill()
        said = training.end()
    assert "continues after epoch" in said
    assert [record.epoch for record in training.records if record.kind == "epoch"] == list(range(EPOCHS))
    steps = [record.step for record in training.records if record.kind == "progress" and not record.note]
    assert steps == sorted(set(steps))
    assert training.history == undisturbed.history
    assert [path.parent.name for path in training.folder.glob("*/spool.jsonl")] == ["driver"]


@pytest.mark.long
def test_a_host_that_is_cut_off_is_done_without(cluster: Cluster, undisturbed: Training) -> None:
    """Nothing tells of a cut link: connections stay open, and no more bytes come."""
    training = Training(cluster, "cut-off", epochs=EPOCHS, workers=[1, 2])
    cluster.hosts["south"].kill()
    training.start()
    training.reach(2)
    host = training.catch_host()
    host.cut()
    host.thaw()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    training.assert_same_losses(undisturbed)
