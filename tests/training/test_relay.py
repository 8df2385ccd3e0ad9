"""Records that reach the driver through a store, and through nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3 import S3Server

from trainyard.errors import ServiceError
from trainyard.training import relay
from trainyard.training.relay import Inbox, Outbox
from trainyard.training.spool import Reader, Record
from trainyard.training.store import FolderStore, Store, open_store, put


def record(step: int, loss: float = 0.5) -> Record:
    values = {"train/step_loss": loss}
    return Record(kind="progress", epoch=0, step=step, seconds=1.0, left_seconds=1.0, values=values)


def steps(path: Path) -> list[int]:
    return [found.step for found in Reader(path).read()]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The driver's, in a folder that no worker sees."""
    (tmp_path / "driver").mkdir()
    return tmp_path / "driver" / "spool.jsonl"


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is sent or looked for but when a test says so."""
    monkeypatch.setattr(relay, "RELAY_SECONDS", 3600.0)
    yield


def test_each_record_arrives_once_whichever_attempt_and_driver_came_between(store: Store, spool: Path) -> None:
    first = Outbox(store)
    assert list(first.read()) == []
    for step in (1, 2, 3):
        first.append(record(step))
    first.flush()
    inbox = Inbox(store, spool)
    inbox.collect()
    assert steps(spool) == [1, 2, 3]
    # Killed before this one is put: the next attempt does the step again.
    first.append(record(4))
    second = Outbox(store)
    assert [found.step for found in second.read()] == [1, 2, 3]
    for step in (4, 5):
        second.append(record(step))
        second.flush()
        inbox.collect()
    inbox.collect()
    assert steps(spool) == [1, 2, 3, 4, 5]
    another = Inbox(store, spool)
    another.collect()
    assert steps(spool) == [1, 2, 3, 4, 5]


def test_an_attempt_that_was_given_up_for_lost_and_goes_on_takes_nothing_away(
    store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FULL_BYTES", 300)
    lost = Outbox(store)
    list(lost.read())
    lost.append(record(1))
    lost.flush()
    inbox = Inbox(store, spool)
    inbox.collect()
    later = Outbox(store)
    list(later.read())
    for step in range(2, 8):
        lost.append(record(step, loss=0.25))
        lost.flush()
        later.append(record(step))
        later.flush()
        if step % 2:
            inbox.collect()
    inbox.collect()
    found = list(Reader(spool).read())
    assert sorted(each.step for each in found if each.values["train/step_loss"] == 0.5) == list(range(1, 8))
    assert sorted(each.step for each in found if each.values["train/step_loss"] == 0.25) == list(range(2, 8))
    assert len(store.names("records")) > 4


def test_a_line_that_is_half_there_waits_for_its_end(store: Store, spool: Path) -> None:
    sender = Outbox(store)
    list(sender.read())
    sender.append(record(1))
    sender.append(record(2))
    sender.flush()
    (name,) = store.names("records")
    whole = store.read(f"records/{name}")
    put(store, f"records/{name}", whole[:-9])
    inbox = Inbox(store, spool)
    inbox.collect()
    assert steps(spool) == [1]
    put(store, f"records/{name}", whole)
    inbox.collect()
    assert steps(spool) == [1, 2]


def test_what_the_driver_had_is_not_copied_again_and_a_torn_end_costs_nothing(store: Store, spool: Path) -> None:
    sender = Outbox(store)
    list(sender.read())
    for step in (1, 2, 3):
        sender.append(record(step))
    sender.flush()
    Inbox(store, spool).collect()
    # The driver was killed while it wrote.
    spool.write_bytes(spool.read_bytes()[:-9])
    Inbox(store, spool).collect()
    assert steps(spool) == [1, 2, 3]


def test_a_store_that_is_away_holds_up_no_record_and_is_said_once(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "RELAY_SECONDS", 0.05)
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        away = open_store("s3://bucket/runs", "f")
        sender, inbox = Outbox(away), Inbox(away, spool)
        assert list(sender.read()) == []
        server.kill()
        sender.append(record(1))
        with pytest.raises(ServiceError, match="s3://bucket/runs/f: cannot be used"):
            sender.flush()
        with pytest.raises(ServiceError, match="s3://bucket/runs/f: cannot be used"):
            inbox.collect()
        while not inbox.problem:
            time.sleep(0.05)
        (said,) = inbox.news()
        assert said.startswith("warning: s3://bucket/runs/f: cannot be used") and "test-secret" not in said
        assert inbox.news() == []
        inbox.stop()
        sender.close()
