"""A cluster of three hosts for each module, and what a training on it must come to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import trainyard
from tests.cluster.clusters import EPOCHS, Cluster, Training
from tests.cluster.hosts import Bench, lacking
from trainyard.data.digits import DigitsConfig
from trainyard.data.prepare import prepare


@pytest.fixture(scope="session")
def able() -> None:
    """Skip where no hosts can be made."""
    if (reason := lacking()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def bench(able: None) -> Iterator[Bench]:
    """A bench whose store holds packed digits."""
    made = Bench()
    try:
        prepare("digits", DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2), made.store / "packed")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def started_cluster(bench: Bench, root: Path) -> Cluster:
    """Three hosts with one processor each; the project is on the first one only."""
    # The environment holds no copy of the package: an editable installation points to a project's sources.
    sources = {Path(trainyard.__file__).parents[1], root / "src"}
    return Cluster(bench, processors={"head": 1, "north": 1, "south": 1}, hidden=tuple(sources))


@pytest.fixture
def cluster(started_cluster: Cluster) -> Cluster:
    """The cluster, whole: what an earlier test took away is back."""
    started_cluster.end_drivers()
    started_cluster.restore()
    return started_cluster


@pytest.fixture(scope="module")
def undisturbed(started_cluster: Cluster) -> Training:
    """The same training with two workers on one machine."""
    training = Training(started_cluster, "undisturbed", epochs=EPOCHS, workers=2, address="local")
    training.start()
    training.end()
    return training
