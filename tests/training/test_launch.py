from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from trainyard.errors import InputError, ServiceError
from trainyard.params import ParamsError
from trainyard.recipe import Recipe
from trainyard.training.checkpoint import kept_weights
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.fit import fit
from trainyard.training.hardware import processors
from trainyard.training.job import FitJob, FitResult
from trainyard.training.launch import started
from trainyard.training.ray_start import PrivateFolder
from trainyard.training.spool import Reader, Record

MakeRecipe = Callable[..., Recipe]
needs_two_processors = pytest.mark.skipif(processors() < 2, reason="needs two processors")
ONE_STEP = {
    "epochs": 1,
    "batch_size": "full",
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "schedule": "constant",
    "warmup_fraction": 0.0,
    "precision": "fp32",
}


def make_job(recipe: Recipe, data_dir: Path, scratch: Path) -> FitJob:
    scratch.mkdir(exist_ok=True)
    return FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint="f")


def launch(job: FitJob, cluster: ClusterConfig, watch: Callable[[], None]) -> FitResult:
    with started(job, cluster) as launched:
        return launched.wait(watch)


def test_more_workers_than_processors_are_refused_at_once(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ParamsError, match=rf"cluster.workers: 64 .* this machine has {processors()}; use at most"):
        launch(make_job(make_recipe(), packed_digits, tmp_path / "s"), ClusterConfig(workers=64), lambda: None)
    assert time.monotonic() - began < 10


def test_a_cluster_that_does_not_answer_is_named(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    job = make_job(make_recipe(), packed_digits, tmp_path / "s")
    with pytest.raises(ServiceError, match=f"cluster.address: {address} does not answer"):
        launch(job, ClusterConfig(workers=1, address=address), lambda: None)


def test_no_workers_means_this_process_and_no_ray(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    job = make_job(make_recipe(epochs=1), packed_digits, tmp_path / "s")
    before = len(psutil.Process().children(recursive=True))
    result = launch(job, ClusterConfig(workers=0), lambda: None)
    assert len(result.history) == 1
    assert len(psutil.Process().children(recursive=True)) == before


def test_folders_of_killed_launches_are_deleted_and_of_living_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = PrivateFolder()
    killed.lock.close()
    alive = PrivateFolder()
    assert not killed.path.exists()
    PrivateFolder().remove()
    assert alive.path.exists()
    alive.remove()


@needs_two_processors
@pytest.mark.cluster
def test_two_workers_take_the_step_that_one_process_takes(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    """With plain SGD, a rate of 1 and one step, the difference of the weights is that of the averaged gradients."""
    recipe = make_recipe(model={"dropout": 0.0}, **ONE_STEP)
    alone = make_job(recipe, packed_digits, tmp_path / "alone")
    fit(alone)
    two = make_job(recipe, packed_digits, tmp_path / "two")
    launch(two, ClusterConfig(workers=2), lambda: None)
    one_weights, two_weights = (
        kept_weights(alone.checkpoints, alone.fingerprint)[0],
        kept_weights(two.checkpoints, two.fingerprint)[0],
    )
    assert max(float((one_weights[name] - two_weights[name]).abs().max()) for name in one_weights) <= 1e-6


@needs_two_processors
@pytest.mark.cluster
@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_the_end_is_bit_identical(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(epochs=8)
    whole = make_job(recipe, packed_digits, tmp_path / "whole")
    expected = launch(whole, ClusterConfig(workers=2), lambda: None)

    job = make_job(recipe, packed_digits, tmp_path / "killed")
    reader, seen, killed = Reader(job.spool), list[Record](), list[int]()

    def kill_one() -> None:
        seen.extend(reader.read())
        if not killed and sum(record.kind == "epoch" for record in seen) >= 2:
            workers = [
                process
                for process in psutil.Process().children(recursive=True)
                if "RayTrainWorker" in " ".join(process.cmdline())
            ]
            os.kill(workers[-1].pid, signal.SIGKILL)
            killed.append(workers[-1].pid)

    result = launch(job, ClusterConfig(workers=2), kill_one)

    assert killed and not psutil.pid_exists(killed[0])
    assert any(record.resumed for record in seen), "training was over before the worker was killed"
    for key in ("train/loss", "val/loss", "val/accuracy", "gradient_norm"):
        assert [row[key] for row in result.history] == [row[key] for row in expected.history]
    for name, weights in kept_weights(whole.checkpoints, whole.fingerprint)[0].items():
        assert torch.equal(weights, kept_weights(job.checkpoints, job.fingerprint)[0][name]), name


@needs_two_processors
@pytest.mark.cluster
def test_a_loss_that_is_no_number_ends_all_workers_without_a_restart(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(optimizer="sgd", learning_rate=1e20, schedule="constant", warmup_fraction=0.0)
    job = make_job(recipe, packed_digits, tmp_path / "s")
    with pytest.raises(InputError, match="at epoch 1, step"):
        launch(job, ClusterConfig(workers=2), lambda: None)
    assert not any("RayTrainWorker" in " ".join(p.cmdline()) for p in psutil.Process().children(recursive=True))
