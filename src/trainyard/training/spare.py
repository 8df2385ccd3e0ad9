"""Have processes ready for workers, with everything imported: the first ones early, and later one for each that may be lost.

Importing torch, Lightning and Ray Train takes seconds, and would be much of a start and nearly all of a restart.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from trainyard.lean import load_lightning
from trainyard.training.timing import SPARE_KEPT_SECONDS, SPARE_MEMORY_BYTES, SPARE_REQUEST_SECONDS

LOADED = ("ray.train.torch", "ray.train.lightning", "trainyard.training.fit", "trainyard.training.pulse")


def worker_environment() -> dict[str, Any]:
    """Return the runtime environment in which workers run: each of their processes begins with `load`."""
    from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR

    return {"env_vars": {WORKER_PROCESS_SETUP_HOOK_ENV_VAR: f"{__name__}.load"}}


def load() -> None:
    """Import all that a worker will need."""
    others: dict[str, Callable[[], object]] = {name: partial(import_module, name) for name in LOADED}
    for name, load_one in {"pytorch_lightning": load_lightning, **others}.items():
        try:
            load_one()
        except Exception:
            # The worker meets it again where it is told of. Here it would end the process, and Ray would start the next.
            logging.getLogger(__name__).exception("%s cannot be imported", name)


def ahead(workers: int) -> bool:
    """Let this node's Ray start the processes of so many workers before Ray Train asks for them; return whether it was asked.

    To be called by the driver of a private Ray. Ray takes a process only for the very environment that it was started with:
    that which Ray Train will give its workers.
    """
    from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
    from ray.train.v2._internal.constants import DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE, get_env_vars_to_propagate

    # As DataParallelTrainer gives them to its controller, whose children inherit them.
    inherited = {
        RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR: DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE,
        **get_env_vars_to_propagate(),
    }
    environment = {"env_vars": {**inherited, **worker_environment()["env_vars"]}}
    # Ray compares the very bytes, as its C++ writes them.
    return _prestart(json.dumps(environment, sort_keys=True, separators=(",", ":"), ensure_ascii=False), workers)


def prepare() -> bool:
    """Let this node's Ray start one process that can take this worker's place; return whether it was asked to.

    To be called within a worker: the process must have its very environment, or Ray would not take it.
    """
    import psutil
    import ray

    if psutil.virtual_memory().available < SPARE_MEMORY_BYTES:
        return False
    return _prestart(ray.get_runtime_context().get_runtime_env_string(), 1)


def _prestart(environment: str, workers: int) -> bool:
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.common_pb2 import Language
    from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
    from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

    context = ray.get_runtime_context()
    node = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    request = PrestartWorkersRequest(
        language=Language.PYTHON,
        job_id=bytes.fromhex(context.get_job_id()),
        keep_alive_duration_secs=SPARE_KEPT_SECONDS,
        num_workers=workers,
    )
    request.runtime_env_info.serialized_runtime_env = environment
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    try:
        NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=SPARE_REQUEST_SECONDS)
    except Exception as error:  # without it a start takes longer, and nothing else
        logging.getLogger(__name__).info("no process ahead: %s", error)
        return False
    finally:
        channel.close()
    return True
