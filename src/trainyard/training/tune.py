"""Trials of a sweep as Ray Tune runs them: which one is next and what becomes of it, others decide. Knows no model.

Processes stay warm from one trial to the next: to start one takes longer than to train a small network.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from trainyard.errors import InputError, TrainyardError
from trainyard.training import ray_start
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.failure import Failure, failure_of
from trainyard.training.job import FitJob
from trainyard.training.noticeboard import Noticeboard
from trainyard.training.timing import FOLLOW_SECONDS, LISTEN_SECONDS

MERIT, EPOCH = "merit", "epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """One trial, as a process gets it."""

    number: int
    attempt: int
    job: FitJob


class Director(Protocol):
    """Who decides. Its methods raise nothing but what ends the sweep."""

    def begin(self) -> TrialJob | None:
        """Return the next trial, None where there is none any more."""

    def progress(self, number: int, epochs: list[dict[str, float]]) -> tuple[int, float]:
        """Take note of a trial's epochs; return how many it has, and its merit so far: higher is better."""

    def ended(self, number: int, *, finished: bool, error: TrainyardError | None) -> None:
        """Take note that a trial has ended: at its end, for what it met, or else because it was worse than others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """Asynchronous successive halving (Li 2018, arXiv:1810.05934)."""

    grace: int
    """Epochs."""
    keep_one_in: int
    epochs: int
    """Most that a trial has."""


Past = Iterable[tuple[int, Sequence[float]]]
"""Trials of earlier attempts: number, and merit after each epoch."""


def run(
    director: Director,
    cluster: ClusterConfig,
    concurrent: int,
    halving: Halving | None,
    past: Past,
    scratch: Path | None,
) -> None:
    """Run trials, `concurrent` at a time, until there is none any more, on the Ray that this process has started or joined.

    What Tune itself writes goes to `scratch`, or where temporary files go.

    Raises:
        KeyboardInterrupt: trials that were under way have saved, if they could within `cluster.stop_seconds`.
        TrainyardError, OSError: what the director met.
    """
    # Read by Tune and its processes. What it would write of trials, the director has on record.
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_PRINT_ALL_TRIAL_ERRORS="0",
        # All processes start at once; Tune would wait for each before it asks for the next one.
        TUNE_MAX_PENDING_TRIALS_PG=str(concurrent),
        TUNE_DISABLE_STRICT_METRIC_CHECKING="1",
        TUNE_FORCE_TRIAL_CLEANUP_S=str(int(cluster.stop_seconds) + 1),
        TUNE_GLOBAL_CHECKPOINT_S="3600",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        RAY_AIR_NEW_OUTPUT="0",
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    launch, on_gpu = uuid.uuid4().hex, ray.cluster_resources().get("GPU", 0) > 0
    board = Noticeboard(launch, ray_start.head_store)
    desk = Desk(director, launch, cluster)
    resources = {"CPU": cluster.threads, **({"GPU": 1} if on_gpu else {})}
    with tempfile.TemporaryDirectory(prefix="trainyard-tune-", dir=scratch) as folder:
        tuner = tune.Tuner(
            tune.with_resources(TrialProcess, resources),
            tune_config=tune.TuneConfig(
                search_alg=desk,
                scheduler=InOrder(desk) if halving is None else rungs(desk, halving, past),
                num_samples=-1,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=folder,
                stop=_Stopper(desk),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=cluster.max_restarts),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            desk.let_save(board)
            raise
    if isinstance(desk.problem, WorkersLost):
        with suppress(Exception):  # the cluster's head is away
            for value in board.read([_failed(desk.problem.number)]).values():
                desk.problem.cause = Failure.decode(value).said
    if desk.problem is not None:
        raise desk.problem


class Desk(Searcher):  # type: ignore[misc]
    """Passes between Tune and the director. What the director raises ends the sweep; Tune would log it and go on."""

    def __init__(self, director: Director, launch: str, cluster: ClusterConfig) -> None:
        super().__init__(metric=MERIT, mode="max")
        self.director = director
        self.launch = launch
        self.cluster = cluster
        self.numbers: dict[str, int] = {}
        """Of trials under way, by Tune's names for them."""
        self.problem: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune keeps a copy of what it was given, from which nobody continues."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Desk:
        return self

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        trial: TrialJob | None = None
        if self.problem is None:
            with self._kept():
                trial = self.director.begin()
        if trial is None:
            return str(Searcher.FINISHED)
        self.numbers[trial_id] = trial.number
        return {"trial": trial, "launch": self.launch, "threads": self.cluster.threads}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler, which is asked first, passes results on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self.numbers.pop(trial_id, None)
        if number is None or self.problem is not None:
            return
        if error or result is None:
            self.problem = WorkersLost(number)
            return
        self.told(result)
        with self._kept():
            self.director.ended(number, finished=bool(result.get("finished")), error=result.get("error"))

    def told(self, result: dict[str, Any]) -> None:
        """Take note of a trial's epochs, and put into the result what the scheduler looks at."""
        if self.problem is None and (epochs := result.get("epochs")):
            with self._kept():
                result[EPOCH], result[MERIT] = self.director.progress(result["number"], epochs)

    def let_save(self, board: Noticeboard) -> None:
        """Ask the trials under way to save, and give them time to."""
        names = [f"saved-{number}" for number in self.numbers.values()]
        until = time.monotonic() + self.cluster.stop_seconds
        with suppress(Exception):  # the cluster's head is away: what is saved is saved
            board.stop("the sweep was told to end")
            while len(board.read(names)) < len(names) and time.monotonic() < until:
                time.sleep(FOLLOW_SECONDS)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the director's records are what a sweep continues from."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""

    def _kept(self) -> _Kept:
        return _Kept(self)


class WorkersLost(Exception):
    """The processes of a trial were lost more often than is allowed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number}")
        self.number = number
        self.cause = ""
        """What the last of them said, if it could."""


class _Kept:
    """Keeps what is raised within the block, as the reason why the sweep ends."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Exception):
            self.desk.problem = error
            return True
        return False


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends the sweep once the director has met something."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.desk.problem is not None


def rungs(desk: Desk, halving: Halving, past: Past) -> Rungs:
    """Return Tune's scheduler, which knows what earlier attempts have found."""
    scheduler = Rungs(desk, halving)
    for number, merits in past:
        for epoch, value in enumerate(merits, start=1):
            scheduler._brackets[0].on_result(SimpleNamespace(trial_id=str(number)), epoch, value)
    return scheduler


class InOrder(FIFOScheduler):  # type: ignore[misc]
    """Lets each trial come to its end."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.desk.told(result)
        return str(self.CONTINUE)


class Rungs(ASHAScheduler):  # type: ignore[misc]
    """Tune's, by the numbers of trials, which they keep when a sweep continues."""

    def __init__(self, desk: Desk, halving: Halving) -> None:
        super().__init__(
            time_attr=EPOCH,
            metric=MERIT,
            mode="max",
            max_t=max(halving.epochs, halving.grace) + 1,
            grace_period=halving.grace,
            reduction_factor=halving.keep_one_in,
        )
        self.desk = desk

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _numbered(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.desk.told(result)
        if result.get(EPOCH, 0) >= trial.config["trial"].job.recipe.train.epochs:
            # It is at its end, and finished rather than stopped.
            return str(self.CONTINUE)
        return str(super().on_trial_result(tune_controller, _numbered(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._trial_info.pop(_numbered(trial).trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._trial_info.pop(_numbered(trial).trial_id, None)


class TrialProcess(tune.Trainable):  # type: ignore[misc]
    """One process, which takes one trial after another."""

    def setup(self, config: dict[str, Any]) -> None:
        from trainyard.lean import load_lightning

        load_lightning()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.fit.end()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            epochs, finished = self.fit.next_epochs()
        except TrainyardError as error:
            # Returned, because Tune would begin the trial again after an exception.
            return {**self._about([]), "done": True, "error": error}
        except Exception as error:
            failure = failure_of(error, f"trial {self.number}")
            if failure.lasting or failure.memory:
                return {
                    **self._about([]),
                    "done": True,
                    "error": InputError(f"{failure.said}; mend it, or leave these values out"),
                }
            with suppress(Exception):  # the cluster's head is away
                self.board.post(_failed(self.number), failure.encode())
            raise
        return {**self._about(epochs), "done": finished, "finished": finished}

    def cleanup(self) -> None:
        self.over.set()
        self.fit.end()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write nothing: the fit keeps its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Read nothing: the fit finds its own."""

    def _begin(self, config: dict[str, Any]) -> None:
        from trainyard.training.arrival import ready
        from trainyard.training.trial_fit import TrialFit

        trial: TrialJob = config["trial"]
        self.number, self.over = trial.number, threading.Event()
        self.fit = TrialFit(trial.job, trial.attempt, config["threads"], lambda job: ready(job, lambda: None))
        board = self.board = Noticeboard(config["launch"], ray_start.head_store)
        threading.Thread(target=self._listen, args=(board, self.fit, trial.number), name="listen", daemon=True).start()

    def _listen(self, board: Noticeboard, fit: Any, number: int) -> None:
        """End the fit when the driver asks for it, and say so once it has saved."""
        while fit is self.fit and not self.over.wait(LISTEN_SECONDS):
            with suppress(Exception):  # the cluster's head is away for a moment
                if board.stopped() is not None:
                    fit.end()
                    board.post(f"saved-{number}", b"1")
                    return

    def _about(self, epochs: list[dict[str, float]]) -> dict[str, Any]:
        return {"number": self.number, "epochs": epochs}


def _failed(number: int) -> str:
    """Return the name under which a trial's process says what it met."""
    return f"failed-{number}"


def _name(trial: Any) -> str:
    return f"trial-{trial.config['trial'].number}"


def _numbered(trial: Any) -> SimpleNamespace:
    return SimpleNamespace(trial_id=str(trial.config["trial"].number))
