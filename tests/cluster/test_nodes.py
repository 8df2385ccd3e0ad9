"""Trainings on several hosts, of which one is lost, cut off or comes back."""

from __future__ import annotations

import pytest

from tests.cluster.clusters import Cluster, Training
from tests.cluster.conftest import EPOCHS

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_workers_on_two_hosts_train_as_on_one(cluster: Cluster, undisturbed: Training) -> None:
    """Only the head has the project, and each host's own name means 127.0.1.1 to it."""
    training = Training(cluster, "two-hosts", epochs=EPOCHS, workers=2)
    training.start()
    training.reach(1)
    assert sorted(len(pids) for pids in cluster.workers().values()) == [0, 1, 1]
    training.end()
    training.assert_same_end(undisturbed)


def test_a_host_that_dies_is_replaced_and_the_end_is_bit_identical(cluster: Cluster, undisturbed: Training) -> None:
    training = Training(cluster, "killed", epochs=EPOCHS, workers=2)
    training.start()
    training.reach(2)
    host = cluster.host_of_a_worker()
    host.freeze()
    assert training.runs()
    host.kill()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    assert "continues after epoch" in said
    training.assert_same_end(undisturbed)


@pytest.mark.long
def test_a_host_that_is_cut_off_is_done_without(cluster: Cluster, undisturbed: Training) -> None:
    """Nothing tells of a cut link: connections stay open, and no more bytes come."""
    training = Training(cluster, "cut-off", epochs=EPOCHS, workers=[1, 2])
    cluster.hosts["south"].kill()
    training.start()
    training.reach(2)
    host = cluster.host_of_a_worker()
    host.freeze()
    assert training.runs()
    host.cut()
    host.thaw()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    training.assert_same_losses(undisturbed)
