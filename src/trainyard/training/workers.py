"""A fit as Ray Train runs it: what the driver asks for, and what each worker does. Knows no model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard.errors import Interrupted, TrainyardError, last_line
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import gpus
from trainyard.training.job import FitJob, FitResult
from trainyard.training.nodes import publish_where_needed


def train(job: FitJob, cluster: ClusterConfig, workers: int, storage: Path) -> FitResult:
    """Run a fit on a group of workers, and replace the group when one is lost.

    Raises:
        Interrupted: workers were lost more often than `cluster.max_restarts`.
        TrainyardError: what the workers met.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from trainyard.training.rendezvous import OneAddressConfig

    publish_where_needed(job)
    use_gpu = gpus() > 0
    # A folder of its own each time: Ray must not continue from its own snapshot, which forgets the newest checkpoint.
    folder = Path(tempfile.mkdtemp(prefix="trainyard-ray-", dir=storage))
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job, "environment": handed_on(os.environ)},
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
            f"({last_line(error)}); run the same command again to continue from the last checkpoint"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome = result.return_value
    if isinstance(outcome, TrainyardError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _resources(cluster: ClusterConfig, use_gpu: bool) -> dict[str, float]:
    return {"CPU": cluster.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a job of `trainyard submit` hands on to its workers, such as a store's credentials.

    Not in Ray's runtime environment, which Ray writes into its logs.
    """
    names = [name for name in environment.get("TRAINYARD_HANDED_ON", "").split(",") if name]
    return {name: environment[name] for name in names if name in environment}


def _work(config: dict[str, Any]) -> FitResult | TrainyardError:
    """Run on each worker: the fit, as one of many."""
    import ray.train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from trainyard.training.arrival import ready
    from trainyard.training.fit import fit

    os.environ.update(config["environment"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    alone = world_size == 1
    # Buffers are averaged once an epoch by the fit itself: at each step it would cost a message, and an uneven
    # number of validation batches would leave workers waiting for each other.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    try:
        with ready(config["job"]) as job:
            return fit(
                job,
                rank=rank,
                world_size=world_size,
                strategy="auto" if alone else strategy,
                plugins=None if alone else [RayLightningEnvironment()],
            )
    except TrainyardError as error:
        # All workers meet it at the same step. Returned, because Ray would start them again after an exception.
        return error
