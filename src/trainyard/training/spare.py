"""Keep a process ready for each worker, with everything imported, so that a lost worker's place is filled in a second.

Importing torch, Lightning and Ray Train takes seconds, and would be nearly all of a restart.
"""

from __future__ import annotations

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


def prepare() -> bool:
    """Let this node's Ray start one process that can take this worker's place; return whether it was asked to.

    To be called within a worker: the process must have its very environment, or Ray would not take it.
    """
    import psutil
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.common_pb2 import Language
    from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
    from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

    if psutil.virtual_memory().available < SPARE_MEMORY_BYTES:
        return False
    context = ray.get_runtime_context()
    node = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    request = PrestartWorkersRequest(
        language=Language.PYTHON,
        job_id=bytes.fromhex(context.get_job_id()),
        keep_alive_duration_secs=SPARE_KEPT_SECONDS,
        num_workers=1,
    )
    request.runtime_env_info.serialized_runtime_env = context.get_runtime_env_string()
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    try:
        NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=SPARE_REQUEST_SECONDS)
    except Exception as error:  # without a spare a restart takes longer, and nothing else
        logging.getLogger(__name__).info("no spare worker: %s", error)
        return False
    finally:
        channel.close()
    return True
