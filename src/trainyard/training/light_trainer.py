"""Ray's torch trainer, without the processes that this one has no use for. Imports Ray and torch."""

from __future__ import annotations

import os
from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from trainyard.training.ray_start import PRIVATE
from trainyard.training.scaling import PresentNodes


class LightTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's TorchTrainer without two actors, each a process whose start the workers would wait behind.

    Where the number of workers may change, it counts the nodes that are there, and not those of a while ago.
    """

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self.scaling_config.elasticity_enabled:
            arguments["scaling_policy"] = PresentNodes(self.scaling_config)
        return super()._initialize_and_run_controller(**arguments)

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out what hands out Ray's datasets, and on a private Ray what tidies up after a driver that died."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        if os.environ.get(PRIVATE):
            unused = (*unused, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]
