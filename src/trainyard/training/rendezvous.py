"""How the workers of one attempt find each other: under one number, on the network that joins their nodes, and on no other.

Ray's own backend lets torch's store listen on every address of the machine. Whoever reaches it can end or mislead a
training: it asks for no token. It also picks a free port first and listens later, when another process may have it.

Imports Ray: only what already runs with it may import it. Torch is imported where a worker needs it: the controller, for whose
start the workers wait, does without.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from trainyard.training.fence import ATTEMPT
from trainyard.training.memory import keep_freed
from trainyard.training.node_facts import INTERFACES, interface_of
from trainyard.training.notice import await_notice
from trainyard.training.timing import GANG_END_SECONDS

_STORES: list[Any] = []
"""Of this process: the listening socket is closed when nobody holds the store any more."""


@dataclass
class GangConfig(BackendConfig):  # type: ignore[misc]
    """Settings of a torch process group, for workers on any number of nodes: what Ray's TorchConfig is, without torch."""

    backend: str
    timeout_s: int

    @property
    def backend_cls(self) -> type[Backend]:
        """The backend that starts a process group."""
        return _Gang

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[None]]:
        """What Ray's own gives a worker: its GPU as the default one."""
        return _on_its_device

    @property
    def framework(self) -> TrainingFramework:
        """What Ray asks for the versions of."""
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, for Ray's records."""
        return {"backend": self.backend, "timeout_s": self.timeout_s}


class _Gang(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: GangConfig) -> None:
        # Runs in the controller, one process for all attempts of a run; a later run's clock is later.
        worker_group.execute(_take_number, time.time_ns())
        worker_group.execute(_choose_interface)
        worker_group.execute(await_notice)
        worker_group.execute(keep_freed)
        size = len(worker_group)
        address, port = worker_group.execute_single(0, _listen, size, backend_config.timeout_s)
        worker_group.execute(_remember, address, port)
        settings = backend_config.backend, size, backend_config.timeout_s
        ray.get([worker_group.execute_single_async(rank, _join, rank, *settings) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: GangConfig) -> None:
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        try:
            ray.get(leaving, timeout=GANG_END_SECONDS)
        except GetTimeoutError:
            logging.getLogger(__name__).warning("the process group did not end within %g s", GANG_END_SECONDS)


@contextmanager
def _on_its_device() -> Iterator[None]:
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield


def _join(rank: int, backend: str, size: int, timeout_seconds: int) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, size, "env://", timeout_seconds)


def _leave(together: bool) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=together)


def _choose_interface() -> None:
    """Have gloo and NCCL listen where this node joined the cluster, unless the user chose another network.

    Ray takes a node's address from the route to its head. Left alone, gloo takes what the host's own name means, which
    many an /etc/hosts gives as 127.0.1.1, where no other host can reach it.
    """
    name = interface_of(ray.util.get_node_ip_address())
    for variable in INTERFACES:
        if name is not None:
            os.environ.setdefault(variable, name)


def _take_number(number: int) -> None:
    os.environ[ATTEMPT] = str(number)


def _remember(address: str, port: int) -> None:
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))


def _listen(world_size: int, timeout_seconds: int) -> tuple[str, int]:
    """Open the store on rank 0, and return where; torch takes a store of its process that has the same port."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(socket.SOMAXCONN)
    port = int(listener.getsockname()[1])
    _STORES[:] = [
        TCPStore(
            address,
            port,
            world_size,
            is_master=True,
            timeout=timedelta(seconds=timeout_seconds),
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=listener.detach(),
            use_libuv=True,
        )
    ]
    return address, port
