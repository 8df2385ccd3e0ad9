"""Ray's trainer, without the processes that this one has no use for, and with a count of the nodes that are there now.

Imports Ray: only what already runs with it may import it. Not torch, which the controller does without, as workers wait for
its start.
"""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from trainyard.training.ray_start import PRIVATE
from trainyard.training.timing import CONNECT_SECONDS, NODE_ANSWER_SECONDS, NODE_POLL_SECONDS


class LightTrainer(DataParallelTrainer):  # type: ignore[misc]
    """Ray's trainer without three actors, each a process whose start the workers would wait behind.

    Where the number of workers may change, it counts the nodes that are there, and not those of a while ago.
    """

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self.scaling_config.elasticity_enabled:
            arguments["scaling_policy"] = PresentNodes(self.scaling_config)
        elif os.environ.get(PRIVATE):
            arguments["scaling_policy"] = Unasked(self.scaling_config)
        return super()._initialize_and_run_controller(**arguments)

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out what hands out Ray's datasets, and on a private Ray what tidies up after a driver that died."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if os.environ.get(PRIVATE):
            unused = (*unused, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]


class Unasked(FixedScalingPolicy):  # type: ignore[misc]
    """Ray's policy for a fixed number of workers, which asks no autoscaler for room: one machine has the room that it has."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class PresentNodes(ElasticScalingPolicy):  # type: ignore[misc]
    """Ray's elastic policy, which counts on a list of nodes that is up to 20 s old, with one that is asked for anew.

    And a node counts only if it answers: one that was just lost stays on Ray's list until its health checks have failed.
    """

    _latest_reserved_resources_query_time: float

    def _get_reserved_resources(self) -> dict[str, dict[str, float]] | None:
        now = time.monotonic()
        if now - self._latest_reserved_resources_query_time >= NODE_POLL_SECONDS:
            self._latest_reserved_resources = self._present()
            self._latest_reserved_resources_query_time = time.monotonic()
        return self._latest_reserved_resources

    def _present(self) -> dict[str, dict[str, float]] | None:
        """Return what each node that answers has for this training, or None where Ray does not say."""
        try:
            asked_for = self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
            reserved = ray.get(asked_for, timeout=CONNECT_SECONDS)
        except (RayError, TimeoutError):
            return None
        nodes = {node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in ray.nodes() if node["Alive"]}
        asked = [identity for identity in reserved if identity in nodes]
        if not asked:
            return {}
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = pool.map(_answers, [nodes[identity] for identity in asked])
            return {identity: reserved[identity] for identity, answer in zip(asked, answers, strict=True) if answer}


def _answers(address: tuple[Any, ...]) -> bool:
    try:
        socket.create_connection(address, timeout=NODE_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
