"""Spread a fit over Ray workers, on this machine or a cluster.

Knows no model, and imports no torch before a worker needs it: each of Ray's own processes imports this file.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainyard.errors import BeginAgain, IntegrityError, Interrupted, MachineError, ServiceError, TrainyardError, last_line
from trainyard.lean import load_lightning
from trainyard.progress import say
from trainyard.training import ray_start, workers
from trainyard.training.access import is_loopback
from trainyard.training.beat import Beat, Place, Progress
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.elastic import NodeWatch, wanted
from trainyard.training.job import FitJob, FitResult
from trainyard.training.lease import TakenOver
from trainyard.training.load import Sample, Sampler
from trainyard.training.memory import keep_freed
from trainyard.training.node_facts import Question
from trainyard.training.noticeboard import Noticeboard
from trainyard.training.preflight import Answer, Preflight
from trainyard.training.ray_probe import ask_nodes
from trainyard.training.relay import Inbox
from trainyard.training.room import count_workers, shared
from trainyard.training.timing import BEAT_SECONDS, FOLLOW_SECONDS, NOTICE_SECONDS, PREFLIGHT_SECONDS
from trainyard.training.watch import Watch


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
        self.name = uuid.uuid4().hex
        self.workers = 0
        """At most; 0 where the recipe is to train in this process."""
        self._here = False
        """Whether the fit runs in this process: for want of workers, or because nothing is left of it to be computed."""
        self._least = 0
        self._moving = False
        self._nodes: NodeWatch | None = None
        self._preflight: Preflight | None = None
        self._board = Noticeboard(self.name, ray_start.head_store)
        self._watch: Watch | None = None
        self._own_loads: deque[Sample] = deque()
        """Where the fit runs in this process."""
        self._inbox: Inbox | None = None
        """Where records come through the storage."""
        self._folder: ray_start.PrivateFolder | None = None
        self._outcome: FitResult | BaseException | None = None
        self._ready, self._done, self._over = threading.Event(), threading.Event(), threading.Event()
        self._stop = threading.Event()
        keep_freed()
        threading.Thread(target=self._live, name="launch", daemon=True).start()

    def ready(self) -> None:
        """Wait until workers can be asked for.

        Raises:
            ParamsError: more workers than the machine has processors for.
            MachineError: Ray could not start.
            ServiceError: the cluster does not answer.
        """
        self._ready.wait()
        _take_signals_back()
        if isinstance(self._outcome, BaseException):
            raise self._outcome

    def wait(self, watch: Callable[[], None]) -> FitResult:
        """Wait for the end of the fit and call `watch` a few times a second meanwhile.

        Raises:
            Interrupted: workers were lost more often than `cluster.max_restarts`, or nodes for good.
            ServiceError: the last records cannot be taken from the storage.
            BeginAgain: the private Ray was lost.
            TrainyardError: whatever `ready` raises, and whatever the workers met.
        """
        _take_signals_back()
        if self.job.storage is not None:
            self._inbox = Inbox(self.job.store(), self.job.spool)
        try:
            while not self._done.wait(FOLLOW_SECONDS):
                watch()
                self._look_after()
        except KeyboardInterrupt:
            self._say("stops at the next step and saves; Ctrl-C again stops at once")
            self._let_save(watch, self.cluster.stop_seconds)
            raise
        except (BeginAgain, TakenOver):
            # Nobody can be told to save, or may.
            raise
        except Interrupted:
            if self._nodes is None or not self._nodes.hopeless:
                self._let_save(watch, max(NOTICE_SECONDS, self.cluster.stop_seconds))
            raise
        self._receive_rest()
        watch()
        self._tell()
        return self._result()

    def _result(self) -> FitResult:
        """Return what the fit that has ended came to, or raise why it came to nothing."""
        if isinstance(self._outcome, FitResult):
            return self._outcome
        self._look_after_ray()
        if isinstance(self._outcome, workers.Lost):
            raise self._lost(self._outcome)
        if isinstance(self._outcome, workers.ControllerLost):
            raise self._without_controller(self._outcome)
        if isinstance(self._outcome, Interrupted) and (reason := self._stopped()):
            raise Interrupted(f"{reason}, and all workers have saved; run the same command again to continue")
        raise self._outcome or RuntimeError("the fit has no outcome")

    @property
    def shown_address(self) -> str:
        """Where Ray is, for people: without user and password."""
        return re.sub(r"//[^/\s]*@", "//", self.address)

    @property
    def notes(self) -> dict[str, str]:
        """What happened that belongs to the run's record."""
        return self._watch.notes if self._watch is not None else {}

    def loads(self) -> list[Sample]:
        """Return what workers have said of their load since the last call."""
        if self._watch is not None:
            return self._watch.loads(last=self._done.is_set())
        return [self._own_loads.popleft() for _ in range(len(self._own_loads))]

    def beats(self) -> list[Beat]:
        """Return what each worker said last; nothing before they train, and where they are none."""
        return list(self._watch.hearing.beats.values()) if self._watch is not None else []

    def end(self) -> None:
        """End the private Ray, or leave the cluster, also in the midst of the fit."""
        try:
            self._end()
        except (KeyboardInterrupt, Interrupted):
            # The user has no patience left, or the machine has none.
            if self._folder is not None:
                ray_start.kill_private(self._folder.path)
            raise
        finally:
            if self._folder is not None:
                self._folder.remove()
            self._over.set()

    def _end(self) -> None:
        self._ready.wait()
        self._stop.set()
        if self._inbox is not None:
            self._inbox.stop()
        if self._here or not self.workers:
            # A thread that computes while the interpreter ends would crash it.
            self._done.wait()
            return
        if self._folder is not None and ray_start.lost_part():
            ray_start.kill_private(self._folder.path)
            ray_start.abandon(_exit_code(sys.exception()))
            return
        for watcher in (self._watch, self._nodes, self._preflight):
            if watcher is not None:
                watcher.stop()
        if self._nodes is not None and self._nodes.head_lost:
            ray_start.abandon(_exit_code(sys.exception()))
            return
        ray_start.leave()

    def _say(self, line: str) -> None:
        say(self.job.recipe.name, "train", line)

    def _tell(self) -> None:
        for watcher in (self._nodes, self._preflight, self._watch, self._inbox):
            if watcher is not None:
                for line in watcher.news():
                    self._say(line)

    def _look_after(self) -> None:
        if self._nodes is not None and self._watch is not None and self._watch.trains:
            self._nodes.trains = True
        self._tell()
        for watcher in (self._nodes, self._watch):
            if watcher is not None:
                watcher.check()
        if self._preflight is not None and not (self._watch is not None and self._watch.trains):
            self._preflight.check()
        self._look_after_ray()
        self._make_way()

    def _look_after_ray(self) -> None:
        """Raise BeginAgain if the private Ray is not whole any more."""
        if self._ready.is_set() and self._folder is not None and (what := ray_start.lost_part()):
            raise BeginAgain(what, self.cluster.max_restarts)

    def _make_way(self) -> None:
        """Have the workers save and start elsewhere, if one of them is on a node that is about to be taken away."""
        if self._nodes is None or self._moving or not self._nodes.leaving & {beat.place.node for beat in self.beats()}:
            return
        with suppress(Exception):  # the cluster's head is away, and says so in many ways: asked again next time
            self._board.stop("a worker's node is about to be taken away")
            self._moving = True
            self._say("saves at the next step, and goes on without that node")

    def _let_save(self, watch: Callable[[], None], seconds: float) -> None:
        """Ask the workers to save where they are, and give them time to."""
        self._stop.set()
        asked = time.monotonic()
        if self._watch is not None:
            with suppress(Exception):  # the cluster's head is away: what is saved is saved
                self._board.stop("the driver was told to end")
        while not self._done.wait(FOLLOW_SECONDS) and (waited := time.monotonic() - asked) < seconds:
            watch()
            # Workers that have just begun say so within two beats; before that, there is nothing to save.
            if self._watch is not None and not self._watch.trains and waited > 2 * BEAT_SECONDS:
                break
        self._receive_rest()
        watch()

    def _receive_rest(self) -> None:
        """Copy the last records from the storage. Only a training that is whole needs all of them now."""
        if self._inbox is None:
            return
        self._inbox.stop()
        if isinstance(self._outcome, FitResult):
            self._inbox.collect()
        elif not self._inbox.problem:
            with suppress(ServiceError, OSError):
                self._inbox.collect()

    def _stopped(self) -> str | None:
        """Return why the workers were asked to save and to leave, if they were."""
        if self._watch is None:
            return None
        with suppress(Exception):  # the cluster's head is away
            return self._board.stopped()
        return None

    def _lost(self, error: workers.Lost) -> Interrupted:
        cause = (self._watch.cause if self._watch is not None else "") or str(error)
        return Interrupted(
            f"training of {self.job.recipe.name}: workers were lost {self.cluster.max_restarts + 1} times, "
            f"the last time: {cause}; run the same command again to continue from the last checkpoint"
        )

    def _without_controller(self, error: workers.ControllerLost) -> Interrupted:
        if self._folder is not None:
            return BeginAgain(str(error), self.cluster.max_restarts)
        return Interrupted(f"{error}; see that the cluster is whole, and run the same command again to continue")

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
        if not self._here:
            return self._fit_on_nodes()

        load_lightning()
        from trainyard.training.fit import fit
        from trainyard.training.pulse import Pulse

        host = os.uname().nodename
        pulse = Pulse(Progress(Place(rank=0, workers=1, host=host, node="", pid=os.getpid(), actor="")))
        with Sampler(pulse.progress, first=False, post=self._own_loads.append):
            return fit(self.job, stop=self._stop, callbacks=[pulse])

    def _fit_on_nodes(self) -> FitResult:
        storage = self._folder.path if self._folder else Path(tempfile.gettempdir())
        while True:
            self._watch = Watch(self.job, self._board, self.workers, has_ended=workers.has_ended, end=workers.end)
            try:
                return workers.train(self.job, self.cluster, (self._least, self.workers), storage, self.name)
            except Interrupted:
                if not self._moving or self._stop.is_set():
                    raise
            self._watch.stop()
            # Whoever was told to leave has left; the next ones listen elsewhere.
            self.name = uuid.uuid4().hex
            self._board = Noticeboard(self.name, ray_start.head_store)
            self._moving = False

    def _connect(self) -> None:
        self._least = self.workers = count_workers(self.cluster, self.address)
        self._here = not self.workers or is_finished(self.job)
        if self._here:
            return
        try:
            if self.address == "local":
                self.cluster = shared(self.cluster, self.workers)
                self._folder = ray_start.PrivateFolder()
                ray_start.start_private(self._folder, self.cluster, self.workers)
            else:
                ray_start.join(self.address, self.cluster.insecure)
                self._least, self.workers = wanted(self.cluster, ray_start.nodes())
                self._nodes = NodeWatch(self.cluster, self._least, ray_start.head(), ray_start.nodes, ray_start.unplaced)
                if not is_loopback(ray_start.head()[0]):
                    # Of nodes that are this machine there is nothing to ask.
                    self._preflight = Preflight(self._ask_nodes, self.cluster, self._least)
        except TrainyardError:
            raise
        except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and more for the same thing
            if self._folder is not None:
                # What has started of it would go on writing into a folder that is being deleted.
                ray_start.kill_private(self._folder.path)
                raise MachineError(
                    f"Ray could not start on this machine ({last_line(error)}); {ray_start.remedy()}, or set cluster.workers: 0"
                ) from error
            raise ServiceError(f"cluster.address: {self.address} does not answer ({last_line(error)}); start it") from error

    def _ask_nodes(self, over: threading.Event) -> list[Answer]:
        job = self.job
        data = ((job.recipe.name, job.data_dir, job.data_sha256),) if job.data_sha256 is not None else ()
        return ask_nodes(Question(head=ray_start.head()[0], data=data), PREFLIGHT_SECONDS, over)


def is_finished(job: FitJob) -> bool:
    """Say whether an earlier attempt came to the end of a training, so that what it made need only be read."""
    if not (job.checkpoints.is_dir() or job.storage is not None):
        return False
    from trainyard.training.checkpoint import newest, stated

    told, _ = stated(job.store(), job.fingerprint)
    if not told or not told[-1].facts.finished:
        return False
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder, suppress(IntegrityError):
        found = newest(job.store(), job.fingerprint, Path(folder) / "state", job.recipe.train.keep)
        # With a damaged one among them, something may be left to be trained, by as many workers as before.
        return found is not None and found.checkpoint.facts.finished and not found.refused
    return False


def _exit_code(error: BaseException | None) -> int:
    """Return with which exit code a process ends that ends with an error, or without."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 0 if error is None else getattr(error, "exit_code", 1)


def _take_signals_back() -> None:
    """Have Python handle SIGTERM again: Ray's start has put a handler in its place that writes a stack and dies."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
