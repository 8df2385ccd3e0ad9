"""How the workers of one attempt find each other: under one number, on the network that joins their nodes, and on no other.

Ray's own backend lets torch's store listen on every address of the machine. Whoever reaches it can end or mislead a
training: it asks for no token. It also picks a free port first and listens later, when another process may have it.

Imports Ray and torch: only what already runs with both may import it.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from trainyard.training.fence import ATTEMPT
from trainyard.training.notice import await_notice

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_STORES: list[Any] = []
"""Of this process: the listening socket is closed when nobody holds the store any more."""


@dataclass
class GangConfig(TorchConfig):  # type: ignore[misc]
    """Ray's settings of a torch process group, for workers on any number of nodes."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The backend that starts a process group."""
        return _Gang


class _Gang(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        # Runs in the controller, one process for all attempts of a run; a later run's clock is later.
        worker_group.execute(_take_number, time.time_ns())
        worker_group.execute(_choose_interface)
        worker_group.execute(await_notice)
        size = len(worker_group)
        address, port = worker_group.execute_single(0, _listen, size, backend_config.timeout_s)
        worker_group.execute(_remember, address, port)
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend=backend_config.backend,
                    world_rank=rank,
                    world_size=size,
                    init_method="env://",
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(size)
            ]
        )


def interface_of(address: str) -> str | None:
    """Return the network interface that has an IP address, or None where none has."""
    name: str
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.family in (socket.AF_INET, socket.AF_INET6) and item.address == address for item in addresses):
            return name
    return None


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
