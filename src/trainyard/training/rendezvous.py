"""How the workers of one attempt find each other: on the network that joins their nodes, under one number.

Imports Ray and torch: only what already runs with both may import it.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import psutil
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from trainyard.training.fence import ATTEMPT
from trainyard.training.notice import await_notice
from trainyard.training.ray_start import PRIVATE

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


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
    import ray.util

    name = interface_of(ray.util.get_node_ip_address())
    for variable in INTERFACES:
        if name is not None:
            os.environ.setdefault(variable, name)


def _take_number(number: int) -> None:
    os.environ[ATTEMPT] = str(number)


class _Gang(_TorchBackend):  # type: ignore[misc]
    """Ray's own torch backend, which starts the process group, with an interface and a number before it."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        # Runs in the controller, one process for all attempts of a run; a later run's clock is later.
        worker_group.execute(_take_number, time.time_ns())
        worker_group.execute(_choose_interface)
        worker_group.execute(await_notice)
        super().on_start(worker_group, backend_config)


@dataclass
class GangConfig(TorchConfig):  # type: ignore[misc]
    """Ray's TorchConfig for workers on any number of nodes."""

    @property
    def backend_cls(self) -> type[_Gang]:
        """The backend that starts a process group."""
        return _Gang


class GangTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's TorchTrainer without two actors of its own, each a process whose start the workers would wait behind."""

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out what hands out Ray's datasets, and on a private Ray what tidies up after a driver that died."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if os.environ.get(PRIVATE):
            unused = (*unused, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]
