"""Workers that fetch what they need, over a link that is as slow as the test wants it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.s3 import S3Server
from tests.slow import SlowLink

from trainyard.data.packed import read_card
from trainyard.errors import TrainyardError
from trainyard.recipe import Recipe
from trainyard.training import store
from trainyard.training.arrival import ready
from trainyard.training.beat import Hang, Hearing, Place, Progress
from trainyard.training.job import FitJob
from trainyard.training.node_data import publish
from trainyard.training.timing import FETCH_SECONDS

pytestmark = pytest.mark.faults
PATIENCE = 240.0
PLACE = Place(rank=0, workers=1, host="alpha", node="n", pid=1, actor="a")


class Arrival:
    """A worker that fetches its data, and a driver that listens to it, by a clock which the test moves."""

    def __init__(self, job: FitJob, link: SlowLink) -> None:
        self.link = link
        self.now = 0.0
        self.progress = Progress(PLACE, lambda: self.now)
        self.hearing = Hearing(lambda: self.now)
        self.over = threading.Event()
        self.outcome: list[Path | TrainyardError] = []
        self._job = job
        self._thread = threading.Thread(target=self._fetch)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            with ready(self._job, lambda: self.progress.arrive("fetching")) as here:
                self.outcome.append(here.data_dir)
        except TrainyardError as error:
            self.outcome.append(error)
        self.over.set()

    def pass_time(self, seconds: float) -> Hang | None:
        """Let time pass without a piece, and return what the driver makes of it."""
        self.now += seconds
        self.hearing.listen({0: self.progress.beat().encode()})
        return self.hearing.hang()

    def next_piece(self) -> None:
        """Let through what it takes for one piece more to come, or the rest."""
        deadline = time.monotonic() + PATIENCE
        while self.progress.at[3] != self.now and not self.over.is_set():
            assert time.monotonic() < deadline
            self.link.allow(256)
            time.sleep(0.001)

    def join(self) -> Path | TrainyardError:
        self._thread.join(PATIENCE)
        (outcome,) = self.outcome
        return outcome


@pytest.fixture
def arrival(
    make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Arrival]]:
    """Return a function that starts a worker on a node without the data, behind a slow link to an object store."""
    monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "CHUNK_BYTES", 8192)
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        job = FitJob(
            recipe=make_recipe(),
            data_dir=packed_digits,
            data_sha256=read_card(packed_digits).sha256,
            scratch_dir=tmp_path / "scratch",
            fingerprint="f",
            storage="s3://bucket/trainyard",
        )
        publish(job)
        with SlowLink(server.url.removeprefix("http://")) as link:
            monkeypatch.setenv("AWS_ENDPOINT_URL", link.url)
            yield lambda: Arrival(dataclasses.replace(job, data_dir=tmp_path / "not-mounted"), link)


def test_a_fetch_may_take_any_time_while_pieces_come(arrival: Callable[[], Arrival], tmp_path: Path) -> None:
    worker = arrival()
    while not worker.over.is_set():
        assert worker.pass_time(0.9 * FETCH_SECONDS) is None
        worker.next_piece()
    assert worker.now > 5 * FETCH_SECONDS
    folder = worker.join()
    assert isinstance(folder, Path) and folder.is_relative_to(tmp_path / "cache")


def test_a_fetch_of_which_nothing_comes_any_more_is_a_hang(arrival: Callable[[], Arrival]) -> None:
    worker = arrival()
    for _ in range(3):
        assert worker.pass_time(1.0) is None
        worker.next_piece()
    assert worker.pass_time(0.9 * FETCH_SECONDS) is None
    hang = worker.pass_time(0.2 * FETCH_SECONDS)
    assert str(hang) == f"rank 0 (pid 1 on alpha) at epoch 1, step 1 (fetching) has not gone on for {1.1 * FETCH_SECONDS:.0f} s"
    worker.link.__exit__(None, None, None)
    assert isinstance(worker.join(), TrainyardError)
