"""A project's tracking without the process beside it: the tests drive the poster themselves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.tracking.journals import drive
from trainyard.recipe import Recipe
from trainyard.tracking import run
from trainyard.tracking.poster import Poster
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig


class NoSender:
    """A sender that is not there, which no stage waits for."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def tell(self, what: dict[str, Any]) -> None: ...
    def end(self) -> None: ...
    def revive(self) -> bool:
        return False

    def busy_seconds(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def make_tracking(
    tmp_path: Path, make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Tracking]:
    """Return a function that makes the tracking of a stage."""
    monkeypatch.setattr(run, "Sender", NoSender)
    return lambda stage: Tracking(tmp_path, TrackingConfig(system_metrics=False), make_recipe(), stage)


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs, which takes a second to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(tmp_path: Path, new_store: Path) -> str:
    shutil.copyfile(new_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def send(tmp_path: Path, uri: str) -> Callable[[], MlflowClient]:
    """Return a function that sends all that waits, and returns a client of the store."""

    def all_of_it() -> MlflowClient:
        drive(Poster(tmp_path, uri))
        return MlflowClient(uri)

    return all_of_it
