from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.s3 import S3Server

from trainyard.errors import InputError, ServiceError
from trainyard.training import checkpoint, object_store
from trainyard.training.checkpoint import Facts
from trainyard.training.store import FolderStore, Store, open_store, put


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["folder", "file", "s3", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
    places = {
        "folder": str(tmp_path / "a b"),
        "file": f"file://{tmp_path}/a%20b",
        "s3": f"s3://bucket/{tmp_path.name}",
        "fsspec": f"memory://{tmp_path.name}",
    }
    return open_store(places[request.param], "runs", "cnn-1")


def test_what_is_written_is_listed_read_fetched_and_deleted(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    assert store.names() == []
    assert store.size("x/big") is None
    put(store, "x/big", content)
    put(store, "x/small", b"1")
    put(store, "x/small", b"22")
    put(store, "y", b"")
    assert store.names() == ["x", "y"]
    assert store.names("x") == ["big", "small"]
    assert (store.sizes("x"), store.sizes(), store.sizes("z")) == ({"big": 3_000_000, "small": 2}, {"y": 0}, {})
    assert (store.size("x/big"), store.size("x/small"), store.size("y"), store.size("x")) == (3_000_000, 2, 0, None)
    assert store.read("x/small") == b"22"
    assert store.fetch("x/big", tmp_path / "copy") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "copy").read_bytes() == content
    store.delete("x")
    store.delete("y")
    store.delete("z")
    assert store.names() == []


def test_what_is_not_there_is_not_found(store: Store, tmp_path: Path) -> None:
    for call in (lambda: store.read("x"), lambda: store.fetch("x", tmp_path / "copy")):
        with pytest.raises(FileNotFoundError):
            call()


def facts(epoch: int, score: float | None) -> Facts:
    return Facts(fingerprint="a", epoch=epoch, step=epoch, ended=score is not None, score=score, finished=False)


def test_checkpoints_are_the_same_in_every_store(store: Store, tmp_path: Path) -> None:
    import torch

    for epoch, score in enumerate((0.1, 0.9, 0.2, 0.3, None)):
        checkpoint.write(store, facts(epoch, score), {"state_dict": {"network.head": torch.tensor([float(epoch)])}})
    checkpoint.prune(checkpoint.stated(store, "a")[0])
    assert [found.facts.epoch for found in checkpoint.scan(store, "a")[0]] == [1, 3, 4]
    newest = checkpoint.newest(store, "a", tmp_path / "copy")
    assert newest is not None and newest.checkpoint.facts == facts(4, None)
    assert torch.load(newest.state, weights_only=True)["state_dict"]["network.head"].tolist() == [4]
    damaged = newest.checkpoint
    put(store, f"{damaged.name}/{damaged.file}", b"x")
    fallen_back = checkpoint.newest(store, "a", tmp_path / "copy")
    assert fallen_back is not None and fallen_back.checkpoint.facts.epoch == 3
    assert fallen_back.refused[0].endswith(
        "does not match the hash it was written with; continuing from step 3: 1 steps are lost"
    )
    weights, kept = checkpoint.kept_weights(store, "a")
    assert (weights["head"].tolist(), kept.epoch) == ([1], 1)


@pytest.mark.faults
def test_an_object_whose_writer_fails_half_way_makes_no_checkpoint(s3: S3Server, tmp_path: Path) -> None:
    store = open_store("s3://bucket", tmp_path.name)
    checkpoint.write(store, facts(0, 0.5), lambda file: file.write(b"weights"))

    def fail(file: Any) -> None:
        file.write(b"half")
        raise OSError("connection lost")

    with pytest.raises(ServiceError, match="connection lost"):
        checkpoint.write(store, facts(1, 0.6), fail)
    valid, refused = checkpoint.scan(store, "a")
    assert [found.facts.epoch for found in valid] == [0]
    assert refused == []


@pytest.mark.faults
def test_a_store_that_is_down_is_named_and_its_keys_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        store = open_store("s3://bucket/runs?region=us-east-1", "f")
        put(store, "x", b"1")
        server.kill()
        for call in (lambda: store.read("x"), store.names, lambda: put(store, "y", b"1"), lambda: store.delete("x")):
            with pytest.raises(ServiceError, match=r"^s3://bucket/runs/f: cannot be used .*; look at") as raised:
                call()
            assert "test-secret" not in str(raised.value)


@pytest.mark.faults
def test_a_store_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        store = open_store("s3://bucket/runs")
        put(store, "x", b"1")
        server.pause()
        monkeypatch.setattr(object_store, "CALL_SECONDS", 1.0)
        with pytest.raises(ServiceError, match="s3://bucket/runs: did not answer for 1 s; start it"):
            put(store, "y", b"1")
        server.go_on()


def test_a_bucket_that_does_not_exist_is_named(s3: S3Server) -> None:
    with pytest.raises(ServiceError, match=r"s3://nobody/runs: cannot be used \(.*bucket.*"):
        put(open_store("s3://nobody/runs"), "x", b"1")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("runs", "cluster.storage: runs is relative"),
        ("ftp2://host/runs", "cluster.storage: ftp2://host/runs: no library knows ftp2://"),
        ("s3://key:word@bucket/runs?x=1", "cluster.storage: s3://bucket/runs comes with a password or key"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        open_store(address)
    assert "word@" not in str(raised.value)


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, "x", b"whole")

    def fail(file: Any) -> None:
        file.write(b"half")
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        store.write("x", fail)
    assert store.read("x") == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
