"""The trials of a sweep: which one is next, what is kept of each, and what comes out."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import InputError, Interrupted, TrainyardError
from trainyard.files import write_whole
from trainyard.masking import mask
from trainyard.progress import say
from trainyard.recipe import check_data, read_changed, read_settings
from trainyard.studies.sweep_config import Asked
from trainyard.studies.trials import Book, State, Swept, Trial
from trainyard.tasks.primary import PRIMARY, merit

if TYPE_CHECKING:
    from trainyard.data.packed import Card
    from trainyard.recipe import Recipe
    from trainyard.tracking.below import Status, TrackingBelow
    from trainyard.tracking.run import Tracking
    from trainyard.training.cluster_config import ClusterConfig, TrackingConfig
    from trainyard.training.elastic import NodeWatch
    from trainyard.training.tune import TrialJob

STATUSES: dict[State, Status] = {"running": "KILLED", "finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""What MLflow is told of a trial, as it stands when its run ends."""
SENT_SECONDS = 20.0
"""How long the tracking store may take for the last trials; what it missed is sent by the next command."""


class Sweeper:
    """Decides what is tried next, and keeps what comes out. Ray Tune calls it in the main thread."""

    def __init__(self, root: Path, asked: Asked, data_dir: Path, card: Card, book: Book) -> None:
        self.root = root
        self.asked = asked
        self.recipe, self.config = asked.recipe, asked.config
        self.data_dir = data_dir
        self.card = card
        self.book = book
        self.primary = PRIMARY[card.kind]
        self.metric = self.config.metric or self.primary
        self.cluster: ClusterConfig
        self.tracking_config: TrackingConfig
        self.cluster, self.tracking_config = read_settings(root / "params.yaml")
        self.waiting = [trial.number for trial in book.in_state("running")]
        """Trials of an earlier attempt that are to continue."""
        self.runs: dict[int, TrackingBelow] = {}
        self.sending: list[TrackingBelow] = []
        self.tracking: Tracking | None = None
        self.watch: NodeWatch | None = None
        """Of a cluster's nodes, while trials run there."""
        self.spent = Spent(book.folder / "seconds.json")

    # What Ray Tune asks.

    def begin(self) -> TrialJob | None:
        """Return the next trial: one of an earlier attempt, or a new one, None where there is none any more."""
        while True:
            if self.waiting:
                known = self.book.trials[self.waiting.pop(0)]
                trial = self.book.write(replace(known, attempts=known.attempts + 1))
                self._say(trial, f"continues after epoch {len(trial.history)}")
            else:
                values = self._next_values()
                if values is None:
                    # The charts are next, and a processor has nothing to do.
                    _loading("trainyard.studies.sweep_figures")
                    return None
                trial = self.book.write(Trial(number=self.book.next_number(), values=values, mark=secrets.token_hex(4)))
            self.spent.keep()
            try:
                return self._job(trial)
            except InputError as error:
                self.ended(trial.number, finished=False, error=error)

    def progress(self, number: int, epochs: list[dict[str, float]]) -> tuple[int, float]:
        """Take note of a trial's epochs."""
        before = self.book.trials[number]
        trial = before.with_epochs(epochs)
        if trial != before:
            self.book.write(trial)
            self.runs[number].epochs(len(before.history), trial.history[len(before.history) :])
        if self.watch is not None:
            self.watch.trains = True
        if self.tracking is not None:
            self.tracking.watch()
        return len(trial.history), self.merits(trial)[-1]

    def ended(self, number: int, *, finished: bool, error: TrainyardError | None) -> None:
        """Take note that a trial has ended. What is no fault of its values ends the sweep."""
        trial = self.book.trials[number]
        if error is not None and not isinstance(error, InputError):
            raise error
        state = "failed" if error is not None or not trial.history else "finished" if finished else "stopped"
        trial = self.book.write(replace(trial, state=state, reason=str(error or "")))  # type: ignore[arg-type]
        self.spent.keep()
        with suppress(OSError):
            shutil.rmtree(self._scratch(number))
        self.free([trial])
        self._end_run(trial)
        if trial.state == "failed":
            self._say(trial, f"cannot be trained: {trial.reason}")
            return
        how = "after" if trial.state == "finished" else "ended early, after"
        best, epochs = self.best(), len(trial.history)
        told = "" if best is None else f"; best so far: {self.score(best):.4f}, trial {best.number}"
        self._say(trial, f"val {self.metric} {self.score(trial):.4f}, {how} {epochs} epoch{'' if epochs == 1 else 's'}{told}")

    # What is known.

    def merits(self, trial: Trial) -> list[float]:
        """Return the merit of a trial after each epoch: higher is better."""
        return [merit(self.metric, value) for value in trial.scores(self.metric, self.primary, self.recipe.train.keep)]

    def score(self, trial: Trial) -> float:
        """Return the metric of a trial as it stands."""
        return trial.scores(self.metric, self.primary, self.recipe.train.keep)[-1]

    def best(self) -> Trial | None:
        """Return the best trial that came to its end; of those ended early the best, where none did."""
        states: tuple[State, ...] = ("finished", "stopped")
        for state in states:
            ended = self.book.in_state(state)
            found = [trial for trial in ended if trial.history and not math.isnan(self.merits(trial)[-1])]
            if found:
                return max(found, key=lambda trial: (self.merits(trial)[-1], -trial.number))
        return None

    def is_over(self) -> bool:
        """Return whether there is nothing left to try."""
        return bool(self.book.trials) and not self.waiting and (self._is_enough() or self._next_values() is None)

    def run(self, tracking: Tracking) -> None:
        """Run trials until there is none any more.

        Raises:
            as `sweep`.
        """
        from trainyard.training.ray_session import session

        self.tracking = tracking
        # Ray's processes take seconds to start, and most of what will be needed here takes seconds to import.
        imports = _loading("trainyard.training.tune", "trainyard.studies.searcher", "optuna")
        try:
            with session(self.cluster, self._places_here()) as scratch:
                imports.join()
                from trainyard.training import tune

                halving = None
                if self.config.scheduler == "asha":
                    halving = tune.Halving(
                        grace=self.config.grace_epochs, keep_one_in=self.config.keep_one_in, epochs=self._most_epochs()
                    )
                # Before the first trial is begun.
                concurrent = self._places()
                past = [(trial.number, self.merits(trial)) for _, trial in sorted(self.book.trials.items())]
                try:
                    with self._watched(on_cluster=scratch is None):
                        tune.run(self, self.cluster, concurrent, halving, past, scratch)
                except tune.WorkersLost as error:
                    cause = f", the last time: {error.cause}" if error.cause else ""
                    raise Interrupted(
                        f"{error}: its process was lost {self.cluster.max_restarts + 1} times{cause}; "
                        "run the same command again to continue"
                    ) from None
        finally:
            for number in list(self.runs):
                self._end_run(self.book.trials[number])
            # A process that was told to end one may have saved once more.
            self.free(self.book.in_state("finished", "stopped", "failed"))

    @contextmanager
    def _watched(self, *, on_cluster: bool) -> Iterator[None]:
        """Tell within the block of nodes that come and go, and that trials wait for room."""
        if not on_cluster:
            yield
            return
        from trainyard.training import ray_start
        from trainyard.training.elastic import NodeWatch

        self.watch = NodeWatch(self.cluster, 1, ray_start.head(), ray_start.nodes, ray_start.unplaced)
        with self.watch.told(lambda line: say(self.recipe.name, "sweep", line), _leave_at_once):
            yield

    def free(self, trials: Sequence[Trial]) -> None:
        """Delete the checkpoints of trials from the storage, if there is one: nobody continues them."""
        from trainyard.training.store import open_store

        if self.cluster.storage is None:
            return
        # What cannot be deleted now is deleted the next time.
        with suppress(TrainyardError, OSError):
            storage = open_store(self.cluster.storage)
            there = set(storage.names())
            for name in {self.book.state(self.recipe.name, trial) for trial in trials} & there:
                storage.delete(name)

    def result(self) -> Swept:
        """Write numbers and charts, and return what came out.

        Raises:
            InputError: no trial could be trained.
        """
        from trainyard.studies.sweep_report import write_report

        trials = tuple(trial for _, trial in sorted(self.book.trials.items()))
        best = self.best()
        if best is None:
            reason = trials[-1].reason if trials else "there was no time for one"
            raise InputError(f"sweep.{self.recipe.name}: none of {len(trials)} trials could be trained; the last: {reason}")
        swept = Swept(
            recipe=self.recipe.name,
            metric=self.metric,
            trials=trials,
            best=best.number,
            scores={trial.number: self.score(trial) for trial in trials if trial.history},
            values=best.values,
            folder=self.root / "reports" / self.recipe.name / "sweep",
        )
        write_report(swept, self.config)
        return swept

    def wait_until_sent(self, tracking: Tracking) -> None:
        """Wait for the sender of the run above, which sends those of the trials as well, while the store answers."""
        until = time.monotonic() + SENT_SECONDS
        while not all(run.is_sent() for run in self.sending) and time.monotonic() < until:
            tracking.watch()
            time.sleep(0.1)

    def _next_values(self) -> dict[str, Any] | None:
        if self._is_enough():
            return None
        from trainyard.studies.searcher import next_values

        trials = [trial for _, trial in sorted(self.book.trials.items())]
        return next_values(self.recipe, self.config, trials, self.merits)

    def _is_enough(self) -> bool:
        over = self.config.seconds is not None and self.spent.total() >= self.config.seconds
        return over or len(self.book.trials) >= self.config.most

    def _job(self, trial: Trial) -> TrialJob:
        """Return what trains a trial, whose run is open from here on.

        Raises:
            InputError: its values cannot be trained.
        """
        from trainyard.models.spec import InputSpec
        from trainyard.studies.trial_data import data_of
        from trainyard.tracking.below import TrackingBelow
        from trainyard.training.job import FitJob
        from trainyard.training.tune import TrialJob

        recipe = read_changed(self.asked, trial.values)
        run = TrackingBelow(self.root, replace(self.tracking_config, system_metrics=False), recipe, "trial", self._above())
        data_dir, card = data_of(self.root, self.book.folder, self.recipe, recipe, self.data_dir, self.card)
        mark = f"{recipe.name}-sweep-{self.book.folder.name}-{trial.number:04d}"
        tags = {"trainyard.study": "sweep trial", "trainyard.trial": str(trial.number)}
        tags |= {key: json.dumps(value) for key, value in trial.values.items()}
        run.begin(self.book.place(trial.number) / "run.json", mark, card, tags)
        # The last ones may be on record here and not there; what is told twice is stored once.
        run.epochs(0, trial.history)
        self.runs[trial.number] = run
        self.sending.append(run)
        check_data(recipe, InputSpec.from_card(card), self.root)
        job = FitJob(
            recipe=recipe,
            data_dir=data_dir.resolve(),
            data_sha256=card.sha256,
            scratch_dir=self._scratch(trial.number),
            fingerprint=self.book.state(recipe.name, trial),
            weights=self._weights(recipe),
            storage=self.cluster.storage,
            data_cache_gigabytes=self.cluster.data_cache_gigabytes,
            checkpoint_seconds=self.cluster.checkpoint_seconds,
            checkpoint_steps=self.cluster.checkpoint_steps,
        )
        return TrialJob(number=trial.number, attempt=trial.attempts, job=self._where_all_see(job))

    def _where_all_see(self, job: Any) -> Any:
        """Bring a job's data to where every node sees them."""
        if job.storage is None:
            return job
        from trainyard.training.nodes import publish_where_needed
        from trainyard.training.outcome import open_storage
        from trainyard.training.ray_start import ask_every_node

        publish_where_needed(job, ask_every_node)
        return open_storage(job)

    def _weights(self, recipe: Recipe) -> Path | None:
        start = recipe.train.start_from
        return None if start is None else (self.root / start.weights).resolve()

    def _scratch(self, number: int) -> Path:
        return self.book.place(number) / "fit"

    def _above(self) -> Tracking:
        if self.tracking is None:
            raise RuntimeError("no trial begins before the sweep's own run is open")
        return self.tracking

    def _end_run(self, trial: Trial) -> None:
        run = self.runs.pop(trial.number, None)
        if run is None:
            return
        # What ended the sweep is told first, also where the disk is what failed.
        with suppress(OSError):
            if trial.history and trial.state != "running":
                primary = trial.scores(self.primary, self.primary, self.recipe.train.keep)[-1]
                run.metrics({f"best/{self.primary}": primary, f"best/{self.metric}": self.score(trial)})
            run.tag({"trainyard.trial_state": trial.state})
            run.end(STATUSES[trial.state], trial.reason)

    def _say(self, trial: Trial, text: str) -> None:
        values = ", ".join(f"{key.partition('.')[2]} {shown(value)}" for key, value in trial.values.items())
        say(self.recipe.name, "sweep", f"trial {trial.number} ({values}): {text}")

    def _places_here(self) -> int:
        """Return how many trials run at a time on this machine."""
        from trainyard.training.hardware import gpus, processors

        if self.config.concurrent != "auto":
            return self.config.concurrent
        return gpus() or max(1, processors() // self.cluster.threads)

    def _places(self) -> int:
        """Return how many trials run at a time on the Ray that is there.

        Raises:
            ParamsError: no node of the cluster has room for one.
        """
        from trainyard.training.elastic import room_for_trials
        from trainyard.training.ray_session import address_of
        from trainyard.training.ray_start import nodes

        if address_of(self.cluster) == "local":
            return self._places_here()
        room = room_for_trials(self.cluster, nodes())
        return room if self.config.concurrent == "auto" else self.config.concurrent

    def _most_epochs(self) -> int:
        found = self.config.over.get("train.epochs")
        if found is None:
            return self.recipe.train.epochs
        return int(max(found.choice if found.choice is not None else found.ends))


class Spent:
    """The seconds of a sweep, over all attempts at it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock, self.began = path, clock, clock()
        try:
            self.earlier = float(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self.earlier = 0.0

    def total(self) -> float:
        """Return the seconds so far."""
        return self.earlier + self.clock() - self.began

    def keep(self) -> None:
        """Write them down."""
        write_whole(self.path, json.dumps(round(self.total(), 2)).encode())


def _leave_at_once(error: TrainyardError) -> None:
    """End this process, also where Tune waits for a cluster that is gone: what it has done is on the disk."""
    sys.stdout.flush()
    sys.stderr.write(mask(f"ERROR: {error}\n"))
    os._exit(error.exit_code)


def _loading(*modules: str) -> threading.Thread:
    """Return a thread that imports modules: while others start, this process has little to do."""
    thread = threading.Thread(target=lambda: [import_module(name) for name in modules], name="imports", daemon=True)
    thread.start()
    return thread


def shown(value: Any) -> str:
    """Return a value for people."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
