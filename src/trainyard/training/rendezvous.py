"""How workers find each other: torch's store, on one address of rank 0's node and on no other.

Ray's own backend lets the store listen on every address of the machine. Whoever reaches it can end or mislead a
training: it asks for no token. It also picks a free port first and listens later, when another process may have it.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_STORES: list[Any] = []
"""Of this process: the listening socket is closed when nobody holds the store any more."""


class OneAddressConfig(TorchConfig):  # type: ignore[misc]
    """Ray's settings of a torch process group, with the backend below."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _OneAddressBackend


class _OneAddressBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
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
