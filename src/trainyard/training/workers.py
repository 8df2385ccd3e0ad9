"""A fit as Ray Train runs it: what the driver asks for, and what each worker does. Knows no model."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import MachineError, TrainyardError, last_line
from trainyard.training import notice, spare
from trainyard.training.beat import Place, Progress
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.failure import failure_of
from trainyard.training.fence import Fence, attempt_of_this_process
from trainyard.training.hardware import take_device
from trainyard.training.job import FitJob, FitResult
from trainyard.training.nodes import publish_where_needed
from trainyard.training.noticeboard import Noticeboard
from trainyard.training.ray_start import PRIVATE, ask_every_node, head_store
from trainyard.training.timing import ELASTIC_START_SECONDS, RESIZE_SECONDS, WORKER_START_SECONDS
from trainyard.training.versions import difference, versions

if TYPE_CHECKING:
    import torch


class Lost(Exception):
    """Workers were lost more often than is allowed."""


class ControllerLost(Exception):
    """Ray's own process that looks after the workers was lost, or the node that it was on."""


def train(job: FitJob, cluster: ClusterConfig, workers: tuple[int, int], storage: Path, launch: str) -> FitResult:
    """Run a fit on a group of at least and at most so many workers, and replace the group when one is lost.

    Raises:
        Lost: workers were lost more often than `cluster.max_restarts`.
        ControllerLost: nobody looks after the workers any more.
        TrainyardError: what the workers met.
    """
    import ray
    from ray.exceptions import RayActorError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    from trainyard.training.light_trainer import LightTrainer
    from trainyard.training.rendezvous import GangConfig

    least, most = workers
    # The controller, which Ray starts from here, reads it.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(ELASTIC_START_SECONDS if least < most else WORKER_START_SECONDS)
    if os.environ.get(PRIVATE):
        spare.ahead(most)
    publish_where_needed(job, ask_every_node)
    use_gpu = ray.cluster_resources().get("GPU", 0) > 0
    # A folder of its own each time: Ray must not continue from its own snapshot, which forgets the newest checkpoint.
    folder = Path(tempfile.mkdtemp(prefix="trainyard-ray-", dir=storage))
    trainer = LightTrainer(
        _work,
        train_loop_config={
            "job": job,
            "launch": launch,
            "threads": cluster.threads,
            "environment": handed_on(os.environ),
            # On a private Ray it is this machine's own files that run.
            "versions": None if os.environ.get(PRIVATE) else versions(),
        },
        backend_config=GangConfig(backend="nccl" if use_gpu else "gloo", timeout_s=int(cluster.timeout_seconds)),
        scaling_config=ScalingConfig(
            num_workers=workers if least < most else most,
            use_gpu=use_gpu,
            resources_per_worker=_resources(cluster, use_gpu),
            placement_strategy="SPREAD",
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=str(folder),
            worker_runtime_env=spare.worker_environment(),
            failure_config=FailureConfig(max_failures=cluster.max_restarts),
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise Lost(last_line(error)) from error
    except RayActorError as error:
        raise ControllerLost(f"Ray's controller of the training was lost ({last_line(error)})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome = result.return_value
    if isinstance(outcome, TrainyardError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _resources(cluster: ClusterConfig, use_gpu: bool) -> dict[str, float]:
    return {"CPU": cluster.threads, **({"GPU": 1} if use_gpu else {})}


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a job of `trainyard submit` hands on to its workers, such as a store's credentials.

    Not in Ray's runtime environment, which Ray writes into its logs.
    """
    names = [name for name in environment.get("TRAINYARD_HANDED_ON", "").split(",") if name]
    return {name: environment[name] for name in names if name in environment}


def _work(config: dict[str, Any]) -> FitResult | TrainyardError:
    """Run on each worker: the fit, as one of many."""
    import ray.train
    import torch
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from trainyard.training.arrival import ready
    from trainyard.training.fit import fit
    from trainyard.training.guard import Guard
    from trainyard.training.load import Sampler
    from trainyard.training.pulse import Pulse, Speaker

    os.environ.update(config["environment"])
    # Ray says so in OMP_NUM_THREADS, which a spare process, that has torch already, no longer reads. With a thread for each
    # of the machine's processors, workers would wait for each other's threads in every layer.
    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    alone = world_size == 1
    # Buffers are averaged once an epoch by the fit itself: at each step it would cost a message, and an uneven
    # number of validation batches would leave workers waiting for each other.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    board = Noticeboard(config["launch"], head_store)
    place = _place(rank, world_size)
    where = str(place)
    pulse, stop, attempt = Pulse(Progress(place)), threading.Event(), attempt_of_this_process()

    def listen() -> bool:
        if notice.given.is_set():
            board.leave(f"{place} was told to end", attempt)
        return board.stopped(attempt) is not None

    problem = difference(config["versions"], versions(), place.host) if config["versions"] else ""
    if problems := meet(strategy.root_device, problem, world_size):
        return MachineError(problems)
    try:
        with (
            Speaker(
                pulse, say=lambda beat: board.post(f"rank-{rank}", beat.encode()), listen=listen, spare=spare.prepare, stop=stop
            ),
            Sampler(
                pulse.progress,
                first=context.get_local_rank() == 0,
                post=lambda sample: board.post(f"load-{rank}", sample.encode()),
            ),
            ready(config["job"], lambda: pulse.progress.arrive("fetching")) as job,
        ):
            pulse.progress.arrive("start")
            try:
                return fit(
                    job,
                    rank=rank,
                    world_size=world_size,
                    strategy="auto" if alone else strategy,
                    plugins=None if alone else [RayLightningEnvironment()],
                    stop=stop,
                    callbacks=[pulse, Guard(Fence(job.store(), attempt))],
                )
            finally:
                where = str(pulse.progress.beat())
    except TrainyardError as error:
        # All workers meet it at the same step. Returned, because Ray would start them again after an exception.
        return error
    except Exception as error:
        with suppress(Exception):
            board.post(f"error-{rank}", failure_of(error, where).encode())
        raise


def meet(device: torch.device, problem: str, workers: int) -> str:
    """Take this worker's device, and only then send for the first time: return the problems of all, so that none goes on alone.

    Args:
        device: what this worker is to compute on.
        problem: what keeps it from working; empty where nothing does.
        workers: how many meet.
    """
    take_device(device)
    if workers == 1:
        return problem
    import torch.distributed

    problems = [""] * workers
    torch.distributed.all_gather_object(problems, problem)
    return "; ".join(sorted({line for line in problems if line}))


def _place(rank: int, workers: int) -> Place:
    import ray

    context = ray.get_runtime_context()
    return Place(
        rank=rank,
        workers=workers,
        host=socket.gethostname(),
        node=context.get_node_id(),
        pid=os.getpid(),
        actor=context.get_actor_id() or "",
    )


def has_ended(place: Place) -> bool:
    """Say whether Ray knows that a worker has ended."""
    from ray._private.state import actors

    return bool(actors(place.actor).get("State") == "DEAD")


def end(place: Place) -> None:
    """Kill a worker, wherever it is."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if place.node == ray.get_runtime_context().get_node_id():
        _kill(place.pid)
        return
    there = NodeAffinitySchedulingStrategy(node_id=place.node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=there).remote(place.pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
