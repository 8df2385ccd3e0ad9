"""Spread a fit over Ray workers, on this machine or a cluster.

Knows no model, and imports no torch before a worker needs it: each of Ray's own processes imports this file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainyard.errors import Interrupted, MachineError, ServiceError, TrainyardError
from trainyard.params import ParamsError
from trainyard.training.access import LOOPBACK, check_cluster, private_access
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import gpus, processors
from trainyard.training.job import FitJob, FitResult

POLL_SECONDS = 0.2


@contextmanager
def started(job: FitJob, cluster: ClusterConfig) -> Iterator[Launch]:
    """Start a fit in the background, while the caller goes on to import and open what it needs; end it after the block."""
    launch = Launch(job, cluster)
    try:
        yield launch
    finally:
        launch.end()


class Launch:
    """A fit under way: in this process, on a private Ray, or on a cluster."""

    def __init__(self, job: FitJob, cluster: ClusterConfig) -> None:
        self.job = job
        self.cluster = cluster
        self.address = os.environ.get("RAY_ADDRESS") or cluster.address
        self.workers = 0
        self._temporary: Path | None = None
        self._lock: IO[str] | None = None
        self._access = ExitStack()
        self._outcome: FitResult | BaseException | None = None
        self._ready, self._done, self._over = threading.Event(), threading.Event(), threading.Event()
        self._stop = threading.Event()
        threading.Thread(target=self._live, name="launch", daemon=True).start()

    def ready(self) -> None:
        """Wait until workers can be asked for.

        Raises:
            ParamsError: more workers than the machine has processors for.
            MachineError: Ray could not start.
            ServiceError: the cluster does not answer.
        """
        self._ready.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome

    def wait(self, watch: Callable[[], None]) -> FitResult:
        """Wait for the end of the fit and call `watch` a few times a second meanwhile.

        Raises:
            Interrupted: workers were lost more often than `cluster.max_restarts`.
            TrainyardError: whatever `ready` raises, and whatever the workers met.
        """
        while not self._done.wait(POLL_SECONDS):
            watch()
        watch()
        if not isinstance(self._outcome, FitResult):
            raise self._outcome or RuntimeError("the fit has no outcome")
        return self._outcome

    def end(self) -> None:
        """End the private Ray, or leave the cluster, also in the midst of the fit."""
        self._ready.wait()
        self._stop.set()
        if self.workers:
            import ray

            ray.shutdown()
            self._access.close()
        else:
            # A thread that computes while the interpreter ends would crash it.
            self._done.wait()
        if self._temporary is not None and self._lock is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._lock.close()
        self._over.set()

    def _live(self) -> None:
        try:
            self._connect()
            self._ready.set()
            self._outcome = self._fit()
        except BaseException as error:
            self._outcome = error
        self._ready.set()
        self._done.set()
        # Ray's processes are children of this thread: the kernel would end them with it.
        self._over.wait()

    def _fit(self) -> FitResult:
        if self.workers:
            return _train(self.job, self.cluster, self.workers, self._temporary or Path(tempfile.gettempdir()))

        from trainyard.training.fit import fit

        return fit(self.job, stop=self._stop)

    def _connect(self) -> None:
        workers = count_workers(self.cluster, self.address)
        if not workers:
            return
        self.workers = workers
        try:
            self._start_ray()
        except TrainyardError:
            raise
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and more for the same thing
            if self.address == "local":
                raise MachineError(
                    f"Ray could not start on this machine ({_last_line(error)}); free memory, or set cluster.workers: 0"
                ) from error
            raise ServiceError(f"cluster.address: {self.address} does not answer ({_last_line(error)}); start it") from error

    def _start_ray(self) -> None:
        os.environ.update(
            RAY_USAGE_STATS_ENABLED="0",
            RAY_TRAIN_ENABLE_PRINT_PATCH="0",
            RAY_TRAIN_METRICS_ENABLED="0",
            RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.25",
            RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="60",
            RAY_DEDUP_LOGS_SKIP_REGEX=".*",
            RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
            # Ray would run workers at a low priority; training is what the user waits for.
            RAY_worker_niceness="0",
            # Ray Train takes none of the processes that Ray would start ahead.
            RAY_prestart_worker_first_driver="0",
            RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
            # Workers import the same package as the driver, also from a copy of the project.
            PYTHONPATH=os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
        )
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address == "local":
            # A cloud may take a node of a cluster away; nobody takes this machine.
            os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
            self._temporary, self._lock = _private_folder()
            self._access.enter_context(private_access(self._temporary))
            ray.init(
                address="local",
                num_cpus=self.workers * self.cluster.cpus_per_worker,
                num_gpus=gpus(),
                include_dashboard=False,
                object_store_memory=80 * 2**20,
                _temp_dir=str(self._temporary),
                _node_ip_address=LOOPBACK,
                **quiet,
            )
        else:
            _answers(self.address)
            check_cluster(self.address, self.cluster.insecure)
            ray.init(address=self.address, **quiet)
        logging.getLogger("ray").setLevel(logging.ERROR)


def count_workers(cluster: ClusterConfig, address: str) -> int:
    """Return how many workers train.

    Raises:
        ParamsError: this machine is to run more workers than it has processors for.
    """
    if cluster.workers == 0:
        return 0
    if cluster.workers == "auto":
        return gpus() or min(2, max(1, processors() // cluster.cpus_per_worker))
    needed, have = cluster.workers * cluster.cpus_per_worker, processors()
    if address == "local" and needed > have:
        raise ParamsError(
            f"params.yaml: cluster.workers: {cluster.workers} x cpus_per_worker: {cluster.cpus_per_worker} need {needed} "
            f"processors, this machine has {have}; use at most {have // cluster.cpus_per_worker} workers, or 'auto'"
        )
    if address == "local" and 0 < (have := gpus()) < cluster.workers:
        raise ParamsError(
            f"params.yaml: cluster.workers: {cluster.workers}, this machine has {have} GPUs; use at most {have}, or 'auto'"
        )
    return cluster.workers


def _train(job: FitJob, cluster: ClusterConfig, workers: int, storage: Path) -> FitResult:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from trainyard.training.rendezvous import OneAddressConfig

    use_gpu = gpus() > 0
    # A folder of its own each time: Ray must not continue from its own snapshot, which forgets the newest checkpoint.
    folder = Path(tempfile.mkdtemp(prefix="trainyard-ray-", dir=storage))
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job},
        torch_config=OneAddressConfig(backend="nccl" if use_gpu else "gloo", timeout_s=int(cluster.timeout_seconds)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=_resources(cluster, use_gpu)),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=cluster.max_restarts),
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise Interrupted(
            f"training of {job.recipe.name}: workers were lost {cluster.max_restarts + 1} times "
            f"({_last_line(error)}); run the same command again to continue from the last checkpoint"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome = result.return_value
    if isinstance(outcome, TrainyardError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _resources(cluster: ClusterConfig, use_gpu: bool) -> dict[str, float]:
    return {"CPU": cluster.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}


def _work(config: dict[str, Any]) -> FitResult | TrainyardError:
    """Run on each worker: the fit, as one of many."""
    import ray.train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from trainyard.training.fit import fit

    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    alone = world_size == 1
    # Buffers are averaged once an epoch by the fit itself: at each step it would cost a message, and an uneven
    # number of validation batches would leave workers waiting for each other.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    try:
        return fit(
            config["job"],
            rank=rank,
            world_size=world_size,
            strategy="auto" if alone else strategy,
            plugins=None if alone else [RayLightningEnvironment()],
        )
    except TrainyardError as error:
        # All workers meet it at the same step. Returned, because Ray would start them again after an exception.
        return error


def _private_folder() -> tuple[Path, IO[str]]:
    """Return a folder for a private Ray and the lock on it; delete those whose owners were killed."""
    place = Path(tempfile.gettempdir())
    for old in place.glob("ty-*/lock"):
        with suppress(OSError), old.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old.parent, ignore_errors=True)
    # Short, because the sockets in it may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ty-"))
    lock = (folder / "new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Under its name only once it is held, so that nobody takes it for a killed one's.
    os.replace(folder / "new", folder / "lock")
    return folder, lock


def _answers(address: str) -> None:
    """Raise ServiceError at once where nothing listens; Ray itself would try for half a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ServiceError(
            f"cluster.address: {address} does not answer ({error}); start the cluster, or use address: local"
        ) from None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
