"""One place for the data of all lessons, and one thread, as when they are run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.lessons.run import one_thread


@pytest.fixture(scope="session")
def lesson_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own, whose packed data all tests of lessons share."""
    return tmp_path_factory.mktemp("lessons")


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield
