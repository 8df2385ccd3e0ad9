"""Trainings whose checkpoints are in a storage: continued from elsewhere, full, away, and finished."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.disks import Disks
from tests.s3 import S3Server

from trainyard.errors import InputError, MachineError, ServiceError
from trainyard.recipe import Recipe
from trainyard.training import recorder, saver, store
from trainyard.training.arrival import ready
from trainyard.training.checkpoint import Facts, kept_weights, scan
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.outcome import check_storage, close_scratch, free_storage, open_scratch, open_storage
from trainyard.training.relay import Inbox
from trainyard.training.saver import Saver
from trainyard.training.spool import Reader

MakeJob = Callable[..., FitJob]
pytestmark = pytest.mark.faults


@pytest.fixture
def make_job(make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path) -> MakeJob:
    """A job on a machine of its own: nothing is shared but the storage."""

    def make(storage: str | None, machine: str = "one", **train: object) -> FitJob:
        recipe = make_recipe(model={"widths": (4,)}, **{"epochs": 3, "batch_size": 256, **train})
        scratch = open_scratch(tmp_path / machine, "f", tmp_path / machine / "dvc.lock")
        return FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=scratch, fingerprint="f", storage=storage)

    return make


def quiet() -> None:
    """Hear nothing of what comes."""


def weights(job: FitJob) -> dict[str, torch.Tensor]:
    return kept_weights(job.store(), "f", "last")[0]


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_another_machine_continues_from_the_storage_to_the_same_bits(make_job: MakeJob, tmp_path: Path) -> None:
    with S3Server() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment().items():
            environment.setenv(name, value)
        server.make_bucket("bucket")
        whole = make_job(None, "whole")
        fit(whole)
        job = open_storage(make_job("s3://bucket/trainyard"))
        fit(job)
        assert not job.checkpoints.exists()
        newest = scan(job.store(), "f")[0][-1]
        newest.store.delete(newest.name)
        other = open_storage(make_job("s3://bucket/trainyard", "other"))
        with ready(other, quiet) as here:
            result = fit(here)
        assert result.resumed_epoch == 2
        assert same(weights(other), weights(whole))
        close_scratch(other.scratch_dir, b"run 1", other.store())
        lock = tmp_path / "other" / "dvc.lock"
        # DVC has not recorded it: it is not done again.
        free_storage("s3://bucket/trainyard", lock)
        again = open_storage(make_job("s3://bucket/trainyard", "other"))
        assert fit(again).resumed_epoch == 3
        close_scratch(other.scratch_dir, b"run 1", other.store())
        # DVC has: a forced run starts from the beginning.
        lock.write_text(f"outs: {hashlib.md5(b'run 1').hexdigest()}")
        free_storage("s3://bucket/trainyard", lock)
        again = open_storage(make_job("s3://bucket/trainyard", "other"))
        assert again.store().names() == ["mark"]
        assert fit(again).resumed_epoch is None
        server.kill()
        with pytest.raises(ServiceError, match="s3://bucket/trainyard/f: cannot be used"):
            fit(again)


def test_records_and_crashes_reach_the_driver_from_nodes_that_share_only_the_store(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RECORD_SECONDS", 0.0)
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        whole = make_job(None, "whole")
        fit(whole)
        driver = open_storage(make_job("s3://bucket/runs", "driver"))

        def crash_on(node: str, step: int) -> None:
            monkeypatch.setenv("TRAINYARD_FAULT", f"raise:step{step}:phase=forward:settled")
            with pytest.raises(RuntimeError, match="a fault on demand"):
                fit(make_job("s3://bucket/runs", node))
            monkeypatch.delenv("TRAINYARD_FAULT")

        inbox = Inbox(driver.store(), driver.spool)
        crash_on("one", 8)
        inbox.collect()
        newest = scan(driver.store(), "f")[0][-1]
        assert newest.facts.epoch == 0
        # A node that saw nothing of the first; killed in the next epoch, and three times in one step.
        crash_on("two", 12)
        for node in ("three", "four"):
            crash_on(node, 12)
        with pytest.raises(InputError, match=r"3 attempts in a row ended at epoch 3, step 2 of it: RuntimeError: a fault"):
            fit(make_job("s3://bucket/runs", "five"))
        assert fit(make_job("s3://bucket/runs", "six")).resumed_epoch == 2
        # The driver was started anew meanwhile, and knows what it had copied.
        inbox.stop()
        Inbox(driver.store(), driver.spool).collect()

    def points(job: FitJob, kind: str) -> list[tuple[int, dict[str, float]]]:
        clock = ("seconds", "throughput/samples_per_s")
        return [
            (record.step, {name: value for name, value in record.values.items() if name not in clock})
            for record in Reader(job.spool).read()
            if record.kind == kind and not record.note
        ]

    assert points(driver, "epoch") == points(whole, "epoch")
    assert points(driver, "progress") == points(whole, "progress")


def test_an_epoch_that_cannot_be_saved_ends_the_training_and_the_next_start_loses_none(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, job = make_job(None, "whole"), make_job(None)
    fit(whole)
    write, states = store.FolderStore.write, list[str]()

    def full(self: store.FolderStore, name: str, save: store.Save) -> None:
        if name.endswith(".ckpt"):
            states.append(name)
            if len(states) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, save)

    monkeypatch.setattr(store.FolderStore, "write", full)
    with pytest.raises(MachineError, match=r"step 10, could not be written \(.*MB are needed.*make room there"):
        fit(job)
    assert [found.facts.epoch for found in scan(job.store(), "f")[0]] == [0]
    assert [record.epoch for record in Reader(job.spool).read() if record.kind == "epoch"] == [0]
    monkeypatch.undo()
    assert fit(job).resumed_epoch == 1
    assert same(weights(job), weights(whole))
    assert [record.epoch for record in Reader(job.spool).read() if record.kind == "epoch"] == [0, 1, 2]


def test_a_damaged_newest_checkpoint_is_told_to_the_user(make_job: MakeJob) -> None:
    job = make_job(None)
    fit(job)
    damaged = scan(job.store(), "f")[0][-1]
    damaged.state.write_bytes(b"")
    assert fit(job).resumed_epoch == 2
    notes = [record.note for record in Reader(job.spool).read() if record.note]
    assert [note for note in notes if not note.startswith("computes in ")] == [
        f"refused {damaged.address}: does not match the hash it was written with; continuing from step 10: 5 steps are lost"
    ]


def test_a_disk_that_is_full_keeps_the_checkpoint_before_and_works_again_with_room(disks: Disks, tmp_path: Path) -> None:
    small_disk = disks.small(tmp_path / "disk", "400k")

    def facts(step: int) -> Facts:
        return Facts(fingerprint="a", epoch=step, step=step, ended=True, score=float(step), finished=False)

    state = {"state_dict": {"network.head": torch.arange(60_000, dtype=torch.float32)}}
    running = Saver(small_disk / "store", "a")
    running.submit(facts(1), state)
    assert running.drain() is None
    running.submit(facts(2), state)
    problem = running.drain()
    running.close()
    assert isinstance(problem, MachineError)
    assert "No space left on device" in str(problem)
    assert "0.2 MB are needed and 0.2 MB free" in str(problem)
    valid, refused = scan(small_disk / "store", "a")
    assert [found.facts.step for found in valid] == [1]
    assert refused == []
    assert not list((small_disk / "store").rglob("*.tmp"))

    disks.remount(small_disk, "size=2m")
    again = Saver(small_disk / "store", "a")
    again.submit(facts(2), state)
    assert again.drain() is None
    again.close()
    assert [found.facts.step for found in scan(small_disk / "store", "a")[0]] == [1, 2]


def test_too_many_open_files_are_said_and_the_next_save_works(tmp_path: Path, root: Path) -> None:
    code = f"""
import os, resource, sys
from pathlib import Path
from trainyard.training.relay import Inbox
from trainyard.training.saver import Saver
from trainyard.training.checkpoint import Facts, scan
place = Path({str(tmp_path / "store")!r})
said = []
running = Saver(place, "a", said.append)
def save(step, ended):
    facts = Facts(fingerprint="a", epoch=step, step=step, ended=ended, score=0.5 if ended else None, finished=False)
    running.submit(facts, {{"weights": step}})
    return running.drain()
assert save(1, True) is None
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
assert save(2, False) is None
problem = save(3, True)
for descriptor in taken:
    os.close(descriptor)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
found, refused = scan(place, "a")
assert [c.facts.step for c in found] == [1] and not refused, (found, refused)
running.close()
running = Saver(place, "a", said.append)
assert save(4, True) is None
running.close()
sys.stderr.write(f"{{type(problem).__name__}} {{problem}}|{{said}}|{{[c.facts.step for c in scan(place, 'a')[0]]}}")
"""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "|" in done.stderr, done.stderr
    problem, said, steps = done.stderr.split("|")
    assert problem.startswith("MachineError") and "Too many open files" in problem
    assert "step 2, could not be written" in said and said.count("Too many open files") == 1
    assert steps == "[1, 4]"


def test_a_node_without_the_drivers_storage_is_named_before_training(make_job: MakeJob, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    job = open_storage(make_job(str(place)))
    with ready(job, quiet) as here:
        assert here.data_dir == job.data_dir
    shutil.rmtree(place / "f")
    said = rf"{os.uname().nodename}: {place}/f is not the folder that the driver sees there; mount it"
    with pytest.raises(MachineError, match=said), ready(job, quiet):
        pass
    (place / "f").mkdir()
    (place / "f" / "mark").write_text("another's")
    with pytest.raises(MachineError, match=said), ready(job, quiet):
        pass


def test_a_storage_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"cluster.storage: {tmp_path}/nowhere is no folder on this machine"):
        check_storage(str(tmp_path / "nowhere"))


def test_a_store_that_goes_away_ends_the_training_with_its_address(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver, "RETRY_SECONDS", 0.0)
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        job = open_storage(make_job("s3://bucket/trainyard"))
        write = saver.checkpoint.write

        def away(*arguments: object) -> object:
            if arguments[1].epoch == 1:  # type: ignore[attr-defined]
                server.kill()
            return write(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(saver.checkpoint, "write", away)
        with pytest.raises(
            ServiceError, match=r"s3://bucket/trainyard/f: cannot be used .*the checkpoint of epoch 2"
        ) as raised:
            fit(dataclasses.replace(job))
        assert raised.value.exit_code == 4
        assert "test-secret" not in str(raised.value)
