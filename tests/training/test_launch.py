from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from trainyard.errors import InputError, Interrupted, MachineError, ServiceError
from trainyard.params import ParamsError
from trainyard.recipe import Recipe
from trainyard.training import ray_start
from trainyard.training.checkpoint import kept_weights
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.fit import fit
from trainyard.training.hardware import processors
from trainyard.training.job import FitJob, FitResult
from trainyard.training.launch import Launch, started
from trainyard.training.load import Sample
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


@pytest.mark.skipif(os.getuid() != 0, reason="only root has programs of other users run")
def test_the_ray_of_another_user_of_this_machine_is_not_joined(tmp_path: Path) -> None:
    # What Ray's own process looks like to others; a real one takes seconds to start.
    raylet = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp")) / "raylet"
    raylet.parent.chmod(0o755)
    raylet.write_text("#!/bin/sh\nread line\n")
    raylet.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        command = [str(raylet), "--node-name=here", f"--gcs-address=127.0.0.1:{port}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, user="nobody") as other:
            said = (
                rf"127.0.0.1:{port}: its Ray on this machine was started by nobody \(process {other.pid}\), .*trainyard submit"
            )
            with pytest.raises(MachineError, match=said):
                ray_start.join(f"127.0.0.1:{port}", insecure=False)
    shutil.rmtree(raylet.parent)


def test_what_keeps_ray_from_starting_is_named_where_it_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "from trainyard.training.ray_start import remedy; print(remedy())"
    limited = f"ulimit -n 100 && exec {sys.executable} -c '{ask}'"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "allow it more open files, of which `ulimit -n` allows 100", done.stderr
    monkeypatch.setattr(ray_start, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert ray_start.remedy() == f"{tmp_path} cannot be written by this user: chmod 1777 {tmp_path}"


def test_versions_that_differ_are_no_cluster_that_does_not_answer() -> None:
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\nThis process: 2.60.0")
    found = ray_start._not_joined("head:6379", error)
    assert isinstance(found, MachineError)
    assert "Ray: 2.59.0 This process: 2.60.0; install the same versions here" in str(found)


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
    monkeypatch.setattr(ray_start, "LONGEST_PLACE", 500)
    killed = PrivateFolder()
    killed.lock.close()
    alive = PrivateFolder()
    assert not killed.path.exists()
    PrivateFolder().remove()
    assert alive.path.exists()
    alive.remove()


def test_a_long_folder_for_temporary_files_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = tmp_path / ("d" * 100), Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setattr(ray_start, "SHORT_PLACES", (str(tmp_path / "none"), str(short)))
    try:
        folder = PrivateFolder()
        assert folder.path.parent == short
        folder.remove()
        assert not list(long.iterdir())
    finally:
        short.rmdir()
    with pytest.raises(MachineError, match=r"is too long for the sockets of a Ray in it, .*set TMPDIR"):
        PrivateFolder()


@needs_two_processors
@pytest.mark.cluster
def test_two_workers_take_the_step_that_one_process_takes(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    """With plain SGD, a rate of 1 and one step, the difference of the weights is that of the averaged gradients."""
    recipe = make_recipe(model={"dropout": 0.0}, **ONE_STEP)
    alone = make_job(recipe, packed_digits, tmp_path / "alone")
    fit(alone)
    two = make_job(recipe, packed_digits, tmp_path / "two")
    loads: list[Sample] = []
    processes: dict[int, str] = {}

    def look() -> None:
        loads.extend(launched.loads())
        processes.update(ray_processes())

    with started(two, ClusterConfig(workers=2)) as launched:
        launched.wait(look)
    # What each of them uses has reached the driver, and of their one machine once.
    assert {sample.rank for sample in loads} == {0, 1}
    assert [sample.steps for sample in loads][-2:] == [1, 1]
    assert {sample.rank for sample in loads if sample.machine} == {0}
    one_weights, two_weights = (
        kept_weights(alone.checkpoints, alone.fingerprint)[0],
        kept_weights(two.checkpoints, two.fingerprint)[0],
    )
    assert max(float((one_weights[name] - two_weights[name]).abs().max()) for name in one_weights) <= 1e-6
    # The processes that were started ahead are those in which the workers ran, and Ray has none that serves nobody here.
    assert len([name for name in processes.values() if name == "worker"]) == 2
    assert not set(processes.values()) & {"monitor.py", "log_monitor.py", "dashboard.py"}


def ray_processes() -> dict[int, str]:
    """Return Ray's Python processes below this one: those that begin with what workers import, and others by their scripts."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get("__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"):
                found[process.pid] = "worker"
            elif scripts := [Path(word).name for word in process.cmdline()[1:4] if "/ray/" in word and word.endswith(".py")]:
                found[process.pid] = scripts[0]
    return found


_whole: dict[str, tuple[FitJob, FitResult]] = {}


def whole(recipe: Recipe, data_dir: Path, places: pytest.TempPathFactory) -> tuple[FitJob, FitResult]:
    """The recipe, trained by two workers whom nothing happens to; once for all tests."""
    if not _whole:
        job = make_job(recipe, data_dir, places.mktemp("whole"))
        _whole["digits"] = job, launch(job, ClusterConfig(workers=2), lambda: None)
    return _whole["digits"]


@needs_two_processors
@pytest.mark.cluster
@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "fault",
    [
        "kill:rank1:step40:phase=reduce",
        "stop:rank1:step40:phase=forward",
        pytest.param("hang:rank0:step40:phase=backward", marks=pytest.mark.long),
        pytest.param("segv:rank0:step40:phase=step", marks=pytest.mark.long),
        pytest.param("raise:rank1:step40:phase=forward", marks=pytest.mark.long),
    ],
)
def test_a_worker_that_dies_or_hangs_is_replaced_and_the_end_is_bit_identical(
    fault: str,
    make_recipe: MakeRecipe,
    packed_digits: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = make_recipe(epochs=8)
    undisturbed, expected = whole(recipe, packed_digits, tmp_path_factory)

    monkeypatch.setenv("TRAINYARD_FAULT", fault)
    job = make_job(recipe, packed_digits, tmp_path / "faulty")
    reader, seen = Reader(job.spool), list[Record]()
    result = launch(job, ClusterConfig(workers=2), lambda: seen.extend(reader.read()))
    seen.extend(reader.read())

    assert list(job.scratch_dir.glob("fault-*")), "the fault did not happen"
    assert any(record.resumed for record in seen), "nothing was resumed"
    if fault.startswith(("stop", "hang")):
        rank = fault.split(":")[1][-1]
        assert f"digits · train · rank {rank} (pid " in (said := capsys.readouterr().out)
        assert "has said nothing for" in said
    for key in ("train/loss", "val/loss", "val/accuracy", "gradient_norm"):
        assert [row[key] for row in result.history] == [row[key] for row in expected.history]
    for name, weights in kept_weights(undisturbed.checkpoints, undisturbed.fingerprint)[0].items():
        assert torch.equal(weights, kept_weights(job.checkpoints, job.fingerprint)[0][name]), name


@needs_two_processors
@pytest.mark.cluster
@pytest.mark.faults
@pytest.mark.long
def test_workers_that_are_lost_again_and_again_end_the_run_with_the_last_place_named(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_FAULT", "kill:rank1:step25:phase=forward:repeat")
    job = make_job(make_recipe(epochs=8), packed_digits, tmp_path / "s")
    with pytest.raises(
        Interrupted, match=r"workers were lost 2 times, the last time: rank 1 \(pid \d+ on .*\) at epoch \d, step "
    ):
        launch(job, ClusterConfig(workers=2, max_restarts=1), lambda: None)


class Disturber:
    """Does something to the process of rank 1 once it trains, and goes on for as long as the training lasts."""

    def __init__(self) -> None:
        self.launched: Launch | None = None
        self.done: list[int] = []

    def victim(self) -> int | None:
        assert self.launched is not None
        places = [beat.place for beat in self.launched.beats() if beat.step > 0 and beat.place.rank == 1]
        return places[0].pid if places and psutil.pid_exists(places[0].pid) else None


@needs_two_processors
@pytest.mark.cluster
@pytest.mark.faults
@pytest.mark.long
def test_a_worker_whose_memory_runs_out_is_told_of_with_a_smaller_batch(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"trainyard-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(4 * 2**20))
    except OSError as error:
        pytest.skip(f"needs the right to make a memory cgroup, version 1: {error}")
    disturber, said = Disturber(), list[str]()

    def starve() -> None:
        said.append(capsys.readouterr().out)
        if not disturber.done and (pid := disturber.victim()):
            disturber.done.append(pid)
            # What the process has is not counted, what it takes from now on is.
            (group / "cgroup.procs").write_text(str(pid))
        if "was ended as memory ran out (train.batch_size is 64: set train.micro_batch_size: 32" in "".join(said):
            raise KeyboardInterrupt

    try:
        job = make_job(make_recipe(epochs=20000), packed_digits, tmp_path / "s")
        with pytest.raises(KeyboardInterrupt), started(job, ClusterConfig(workers=2)) as disturber.launched:
            disturber.launched.wait(starve)
        assert disturber.done
    finally:
        deadline = time.monotonic() + 120
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        group.rmdir()


@needs_two_processors
@pytest.mark.cluster
@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_straggler_is_named(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    """Rank 1 gets a fifth of a processor, in the way in which the kernel's quotas do it: it runs, then it stands."""
    recipe = make_recipe(epochs=20000)
    job = make_job(recipe, packed_digits, tmp_path / "s")
    disturber, over = Disturber(), threading.Event()

    def throttle() -> None:
        while not over.is_set():
            pid = disturber.victim() if disturber.launched is not None else None
            if pid is None:
                time.sleep(0.1)
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.08)
                os.kill(pid, signal.SIGCONT)
                disturber.done.append(pid)
            time.sleep(0.02)

    def until_it_is_told_of() -> None:
        assert disturber.launched is not None
        if disturber.launched.notes:
            raise KeyboardInterrupt

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), started(job, ClusterConfig(workers=2)) as disturber.launched:
            disturber.launched.wait(until_it_is_told_of)
    finally:
        over.set()
        thread.join()
    assert disturber.done
    assert disturber.launched is not None
    assert disturber.launched.notes["straggler"].startswith("rank 1 (pid ")


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
