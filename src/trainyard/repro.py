"""`trainyard repro`: what `dvc repro` does, with the trainings of several recipes side by side where there is room.

DVC runs one stage after another. So trainings run ahead of it, each in a folder that shows the project, and leave what they
came to where a training that was cut off just before its end leaves it. `dvc repro` then runs the stages in its own order, and
each stage `train` finds its training done. dvc.lock, cache and outputs are DVC's own work, as they are without this command.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from trainyard.dvc_stages import needed
from trainyard.parent import PARENT, this_process
from trainyard.progress import say
from trainyard.recipe import read_settings
from trainyard.studies.children import Child, show
from trainyard.training.cluster_config import ClusterConfig

LOOK_SECONDS = 0.1
STOP_SECONDS = 15.0
"""After Ctrl-C, which trainings get as well, how long they may take to save before they are ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many trainings there is room for at a time, and with how many workers each: as many as one alone would have."""

    together: int
    workers: int
    threads: int
    """Of each worker; their number changes the order of sums, too."""
    why: str
    """For people."""


def repro(root: Path, targets: Sequence[str], together: int | None = None) -> int:
    """Run stages, and return DVC's exit code, or that of a training that failed.

    Args:
        root: the project.
        targets: stages as `dvc repro` takes them; none: all.
        together: trainings at a time, instead of as many as there is room for.

    Raises:
        InputError: dvc.yaml cannot be read, or has no such stage.
        IntegrityError: dvc.lock is damaged.
        TrainyardError: Ray cannot start, or the cluster does not answer.
    """
    cluster = read_settings(root / "params.yaml")[0]
    recipes = trained_by(root, targets)
    if recipes and (code := _dvc(root, ["repro", *(f"prepare@{name}" for name in recipes)])):
        return code
    ahead = [name for name in recipes if would_train(root, name)]
    room = room_for(cluster, len(ahead), together)
    if len(ahead) < 2 or room.together < 2:
        if len(ahead) > 1:
            say("repro", "train", f"one training after another: {room.why}")
        return _dvc(root, ["repro", *targets])

    say("repro", "train", f"{', '.join(ahead)}, {room.together} at a time: {room.why}")
    failed = run_ahead(root, ahead, room, cluster)
    if not failed:
        return _dvc(root, ["repro", *targets])
    for name, code in failed.items():
        say(name, "train", f"failed with exit code {code}, for the reason above; the others are finished")
    if rest := without(root, targets, list(failed)):
        code = _dvc(root, ["repro", *rest])
        return code or next(iter(failed.values()))
    return next(iter(failed.values()))


def trained_by(root: Path, targets: Sequence[str]) -> list[str]:
    """Return the recipes whose stage `train` is among what the targets need, in DVC's order.

    Raises:
        InputError: there is no such stage, or dvc.yaml cannot be read.
    """
    names = [name for name in needed(root, targets) if name.startswith("train@")]
    return [name.removeprefix("train@") for name in names]


def without(root: Path, targets: Sequence[str], failed: Sequence[str]) -> list[str]:
    """Return the stages that the targets need and that need none of the trainings that failed.

    Raises:
        InputError: there is no such stage, or dvc.yaml cannot be read.
    """
    from dvc.repo import Repo

    lost = set[str]()
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        look = [stage for stage in graph if str(stage.addressing) in {f"train@{name}" for name in failed}]
        while look:
            stage = look.pop()
            if str(stage.addressing) not in lost:
                lost.add(str(stage.addressing))
                # Edges lead from a stage to those that it needs.
                look += graph.predecessors(stage)
    return [name for name in needed(root, targets) if name not in lost]


def would_train(root: Path, name: str) -> bool:
    """Return whether `dvc repro` would train a recipe: it is not up to date, and DVC has not seen this state before."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotFoundError
    from dvc_data.hashfile.hash_info import HashInfo

    with Repo(str(root)) as repo, suppress(DvcException), _without_news():
        (stage,) = repo.stage.collect(f"train@{name}")
        with repo.lock:
            if not stage.changed():
                return False
            if stage.changed_stage() or not stage.deps_cached():
                # What dvc.lock has is of other inputs: with those of now beside it, DVC would take it for their result.
                stage.save_deps(allow_missing=True)
                for out in stage.outs:
                    out.hash_info = HashInfo()
            try:
                repo.stage_cache.restore(stage, dry=True)
            except RunCacheNotFoundError:
                return True
            return False
    # Whatever is wrong with it, dvc repro says it.
    return False


@contextmanager
def _without_news() -> Iterator[None]:
    """Keep DVC from saying of a stage that it takes it from its cache, while it is only asked whether it could."""
    logger = logging.getLogger("dvc")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def room_for(cluster: ClusterConfig, trainings: int, together: int | None) -> Room:
    """Return how many trainings may run at a time. Each has the workers that it would have alone, for equal bits.

    Raises:
        ParamsError: one alone asks for more than there is.
        ServiceError: the cluster does not answer.
    """
    from trainyard.training.hardware import gpus, processors
    from trainyard.training.ray_session import address_of
    from trainyard.training.room import count_workers, shared

    address = address_of(cluster)
    if address != "local":
        return _room_on_cluster(cluster, address, trainings, together)
    workers = count_workers(cluster, address)
    # Without workers, a training takes this machine's processors within its own process.
    threads = shared(cluster, workers).threads if workers else processors()
    have, each, what = processors(), max(1, workers) * threads, "processors"
    if workers and gpus():
        have, each, what = gpus(), workers, "GPUs"
    why = f"{each} of {have} {what} each" + (", as asked for" if together else "")
    return Room(together=min(trainings, together or max(1, have // each)), workers=workers, threads=threads, why=why)


def _room_on_cluster(cluster: ClusterConfig, address: str, trainings: int, together: int | None) -> Room:
    if not isinstance(cluster.workers, int):
        why = f"cluster.workers: {cluster.workers} takes all that the cluster has; give a number to share it"
        return Room(together=1, workers=0, threads=cluster.threads, why=why)
    if not together and trainings > 1:
        from trainyard.training.elastic import places, wanted
        from trainyard.training.ray_session import session
        from trainyard.training.ray_start import nodes

        with session(cluster, cluster.workers):
            found = nodes()
        wanted(cluster, found)
        together = max(1, places(cluster, found) // max(1, cluster.workers))
    why = f"{cluster.workers} workers each, on {address}"
    return Room(together=min(trainings, together or 1), workers=cluster.workers, threads=cluster.threads, why=why)


def run_ahead(root: Path, names: Sequence[str], room: Room, cluster: ClusterConfig) -> dict[str, int]:
    """Train recipes side by side, and return the exit code of each that failed, once all have ended.

    Raises:
        KeyboardInterrupt: those under way have saved.
        TrainyardError: Ray cannot start, or the cluster does not answer.
    """
    waiting, running, failed = list(names), dict[str, subprocess.Popen[bytes]](), dict[str, int]()
    with _shared_ray(cluster, room) as environment:
        try:
            while waiting or running:
                while waiting and len(running) < room.together:
                    name = waiting.pop(0)
                    running[name] = _start(root, name, room, environment)
                time.sleep(LOOK_SECONDS)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    if code := running.pop(name).returncode:
                        failed[name] = code if code > 0 else 128 - code
        except BaseException:
            _end(list(running.values()))
            raise
    return failed


def _start(root: Path, name: str, room: Room, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start stage `train` of a recipe in a folder of its own."""
    child = Child(
        recipe=name, changes={}, data_dir=root / "data" / "prepared" / name, folder=root / ".trainyard" / "ahead" / name
    )
    show(root, child, {"cluster": {"workers": room.workers, **({"cpus_per_worker": room.threads} if room.workers else {})}})
    # By which it knows, as the stage itself would, whether DVC has what an earlier training of this state came to.
    lock = child.folder / "dvc.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(root / "dvc.lock")
    places = [str(child.data_dir), f"models/{name}", f"reports/{name}"]
    return subprocess.Popen(
        [sys.executable, "pipeline/train.py", name, *places],
        cwd=child.folder,
        env=environment | {"DVC_ROOT": str(root), PARENT: this_process()},
        # Ctrl-C reaches it through this process, and once: twice would have it end without saving.
        process_group=0,
    )


@contextmanager
def _shared_ray(cluster: ClusterConfig, room: Room) -> Iterator[dict[str, str]]:
    """Yield the environment of trainings that share one Ray: the cluster, or a private one; none where they need none."""
    from trainyard.training.ray_session import address_of, session
    from trainyard.training.ray_start import SHARED, own_address

    if not room.workers or address_of(cluster) != "local":
        yield _environment()
        return
    with session(replace(cluster, cpus_per_worker=room.threads), room.together * room.workers):
        # With the token of this Ray, which is in the environment for as long as it runs.
        yield {**_environment(), "RAY_ADDRESS": own_address(), SHARED: own_address()}


def _environment() -> dict[str, str]:
    # Of the stage of another pipeline, should this run in one.
    return {"PYTHONPATH": "src", **{name: value for name, value in os.environ.items() if name != "DVC_STAGE"}}


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End trainings as Ctrl-C does, and wait until they have saved."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dvc(root: Path, arguments: Sequence[str]) -> int:
    """Run dvc to its end. It and its stage get each Ctrl-C once, through this process, and the stage saves."""
    stopped = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signum)

    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], cwd=root, process_group=0)
    before = signal.signal(signal.SIGINT, stop)
    try:
        code = process.wait()
    except BaseException:
        # Its stage sees that it is gone, saves, and ends.
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped:
        raise KeyboardInterrupt
    return code if code >= 0 else 128 - code
