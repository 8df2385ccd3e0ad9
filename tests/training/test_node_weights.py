"""Weights to begin with, for workers on nodes that do not see the driver's files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.s3 import S3Server

from trainyard.data.packed import read_card
from trainyard.errors import IntegrityError, MachineError, ServiceError
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import StartConfig
from trainyard.training.checkpoint import kept_weights
from trainyard.training.job import FitJob
from trainyard.training.node_weights import FILE, publish_weights, weights_here

WORK = """
import pickle, sys
from trainyard.training.arrival import ready
from trainyard.training.fit import fit
if __name__ == "__main__":
    with ready(pickle.loads(sys.stdin.buffer.read()), lambda: None) as job:
        fit(job)
        print(job.weights)
"""


def quiet() -> None:
    """Hear nothing of what comes."""


@pytest.fixture
def job(make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FitJob:
    """A training that begins with weights of the driver's, and changes them by next to nothing."""
    monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "driver").mkdir()
    (tmp_path / "storage").mkdir()
    path = tmp_path / "driver" / "given.safetensors"
    torch.manual_seed(11)
    network = build_network(make_recipe().model, InputSpec.from_card(read_card(packed_digits)))
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    start = StartConfig(weights=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return FitJob(
        recipe=make_recipe(epochs=1, learning_rate=1e-12, start_from=start),
        data_dir=packed_digits,
        scratch_dir=tmp_path / "scratch",
        fingerprint="f",
        weights=path,
        storage=str(tmp_path / "storage"),
    )


@pytest.fixture(params=["folder", pytest.param("objects", marks=pytest.mark.faults)])
def stored(request: pytest.FixtureRequest, job: FitJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[FitJob]:
    """The same, as a node sees it on which the driver's files are not: in the storage are the weights."""
    if request.param == "folder":
        publish_weights(job)
        yield dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"))
        return
    server: S3Server = request.getfixturevalue("server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    far = dataclasses.replace(job, storage="s3://bucket/trainyard")
    publish_weights(far)
    yield dataclasses.replace(far, weights=Path("/not-mounted/given.safetensors"))


def test_a_worker_elsewhere_begins_with_the_drivers_weights(stored: FitJob, job: FitJob, tmp_path: Path, root: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        input=pickle.dumps(stored),
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr.decode()
    used = Path(done.stdout.decode().splitlines()[-1])
    assert used == tmp_path / "cache" / str(stored.weights_sha256) / FILE
    assert job.weights is not None
    given, after = load_file(job.weights), kept_weights(stored.store(), "f")[0]
    assert given.keys() == after.keys()
    assert max(float((given[name].double() - after[name].double()).abs().max()) for name in given) < 1e-6


def test_weights_that_the_node_sees_are_used_where_they_are(job: FitJob, tmp_path: Path) -> None:
    with weights_here(job, quiet) as path:
        assert path == job.weights
    assert not (tmp_path / "cache").exists()


def test_another_file_at_the_path_is_not_used(stored: FitJob, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"another node's")
    with weights_here(dataclasses.replace(stored, weights=other), quiet) as path:
        assert path is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == stored.weights_sha256


def test_weights_are_put_into_the_storage_once_and_fetched_once(job: FitJob, tmp_path: Path) -> None:
    publish_weights(job)
    (place,) = (tmp_path / "storage").rglob(FILE)
    before = place.stat().st_mtime_ns
    publish_weights(job)
    assert place.stat().st_mtime_ns == before
    here = dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"))
    with weights_here(here, quiet):
        place.unlink()
    with weights_here(here, quiet) as path:
        assert path is not None and path.is_file()


def test_damaged_weights_in_the_storage_are_refused_and_not_kept(job: FitJob, tmp_path: Path) -> None:
    publish_weights(job)
    (place,) = (tmp_path / "storage").rglob(FILE)
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    here = dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"))
    with pytest.raises(IntegrityError, match=f"{place}: is not what it should be"), weights_here(here, quiet):
        pass
    assert list((tmp_path / "cache").rglob(FILE)) == []


def test_damaged_weights_in_the_cache_are_fetched_anew(job: FitJob, tmp_path: Path) -> None:
    publish_weights(job)
    here = dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"))
    with weights_here(here, quiet) as path:
        assert path is not None
        path.write_bytes(b"damaged")
    with weights_here(here, quiet) as path:
        assert path is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == job.weights_sha256


def test_without_a_storage_the_node_and_the_file_are_named(job: FitJob) -> None:
    here = dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"), storage=None)
    said = rf"{os.uname().nodename}: /not-mounted/given.safetensors \(train.start_from.weights\) is not there.*cluster.storage"
    with pytest.raises(MachineError, match=said), weights_here(here, quiet):
        pass


def test_weights_that_were_never_put_there_are_missed(job: FitJob) -> None:
    here = dataclasses.replace(job, weights=Path("/not-mounted/given.safetensors"))
    with pytest.raises(ServiceError, match=f"holds no {FILE}; run the same command again"), weights_here(here, quiet):
        pass
