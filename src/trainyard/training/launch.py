"""Spread a fit over Ray workers, on this machine or a cluster.

Knows no model, and imports no torch before a worker needs it: each of Ray's own processes imports this file.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import MachineError, ServiceError, TrainyardError, last_line
from trainyard.training import ray_start, workers
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.job import FitJob, FitResult
from trainyard.training.timing import FOLLOW_SECONDS


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
        self._folder: ray_start.PrivateFolder | None = None
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
        while not self._done.wait(FOLLOW_SECONDS):
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
        else:
            # A thread that computes while the interpreter ends would crash it.
            self._done.wait()
        if self._folder is not None:
            self._folder.remove()
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
            storage = self._folder.path if self._folder else Path(tempfile.gettempdir())
            return workers.train(self.job, self.cluster, self.workers, storage)

        from trainyard.training.fit import fit

        return fit(self.job, stop=self._stop)

    def _connect(self) -> None:
        self.workers = ray_start.count_workers(self.cluster, self.address)
        if not self.workers:
            return
        try:
            if self.address == "local":
                self._folder = ray_start.PrivateFolder()
                ray_start.start_private(self._folder, self.cluster, self.workers)
            else:
                ray_start.join(self.address, self.cluster.insecure)
        except TrainyardError:
            raise
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and more for the same thing
            if self.address == "local":
                raise MachineError(
                    f"Ray could not start on this machine ({last_line(error)}); free memory, or set cluster.workers: 0"
                ) from error
            raise ServiceError(f"cluster.address: {self.address} does not answer ({last_line(error)}); start it") from error
