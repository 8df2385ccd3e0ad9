"""How a machine's processors are shared out among its workers."""

from __future__ import annotations

import pytest

from trainyard.training import room
from trainyard.training.cluster_config import ClusterConfig


@pytest.mark.parametrize(("processors", "workers", "each"), [(2, 2, 1), (8, 2, 4), (7, 2, 3), (1, 2, 1), (8, 0, 8)])
def test_each_worker_has_its_share_of_the_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int, each: int
) -> None:
    monkeypatch.setattr(room, "processors", lambda: processors)
    assert room.shared(ClusterConfig(), workers).threads == each


def test_a_number_of_processors_that_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "processors", lambda: 8)
    assert room.shared(ClusterConfig(cpus_per_worker=3), 2).threads == 3


def test_auto_asks_a_cluster_for_one_processor_a_worker() -> None:
    assert ClusterConfig().threads == 1
