"""ExecuTorch: a program for Android, iOS and small processors. Who wants it installs its package: pip install executorch."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.export.inputs import Inputs
from trainyard.models.spec import InputSpec


def check_possible(spec: InputSpec) -> None:
    """Refuse the format where it cannot be written, before anything is done.

    Raises:
        InputError: the inputs have any length, and a program takes one shape.
        MachineError: its package is missing; with the command that installs it.
    """
    if spec.kind in ("text_classification", "forecasting"):
        raise InputError(
            f"export.formats names executorch, whose programs take inputs of one shape; those of {spec.kind} have any length: "
            "leave it out"
        )
    _check_installed()


def _check_installed() -> None:
    if find_spec("executorch") is None:
        raise MachineError(
            "export.formats names executorch, whose package is not installed; run: pip install executorch, or leave it out"
        )


def write_executorch(network: nn.Module, example: Inputs, path: Path) -> None:
    """Write a network for inputs of exactly the example's shapes, with XNNPACK's operations where it has them.

    Raises:
        MachineError: it cannot be expressed.
    """
    _check_installed()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    torch.ops.aten.lstm.input._dispatch_cache.clear()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = to_edge_transform_and_lower(torch.export.export(network, example), partitioner=[XnnpackPartitioner()])
            content = program.to_executorch().buffer
    except Exception as error:  # of the exporter and its backends, without a parent
        headline = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MachineError(
            f"executorch: {headline[:300]}; the network cannot be expressed: leave executorch out of export.formats"
        ) from error
    finally:
        torch.ops.aten.lstm.input._dispatch_cache.clear()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class ExecutorchFile:
    """A .pte file on ExecuTorch's own runtime; it takes one shape."""

    form = "executorch"

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            IntegrityError: it is damaged.
        """
        _check_installed()
        from executorch.runtime import Runtime

        self.path = path
        try:
            self.method = Runtime.get().load_program(path).load_method("forward")
        except Exception as error:  # of the runtime, without a parent
            raise IntegrityError(f"{path}: is no whole ExecuTorch program ({error}); export it again") from error
        if self.method is None:
            raise IntegrityError(f"{path}: has no method forward; export it again")

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the logits, or the forecast, for raw inputs, one sample after the other."""
        found = [self.method.execute([part[number : number + 1] for part in inputs])[0] for number in range(len(inputs[0]))]
        logits: NDArray[np.float32] = torch.cat(found).numpy()
        return logits

    def inside(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Return nothing: the program is compiled."""
        return []
