"""ExecuTorch: a program for Android, iOS and small processors, on XNNPACK where it has the operations.

A program takes one input at a time. Images of masks may have any size, and texts and series any length, up to what `limits`
says: the program keeps room for the largest.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainyard.errors import IntegrityError, MachineError, first_line
from trainyard.export.config import EXECUTORCH
from trainyard.export.inputs import Inputs
from trainyard.export.scanned import scanned
from trainyard.models.spec import InputSpec

LEAST_SIDE = 512
"""Pixels that each side of an image may have where any size is free; twice those of the training's images where that is
more. The room that a program keeps grows with it."""
LEAST_LENGTH = 64
"""Tokens or steps that a text or a series may have; three times those of the training's where that is more."""


def limits(spec: InputSpec) -> dict[str, int]:
    """Return the largest sizes that a program takes, by name; those that are not named are the training's own."""
    match spec.kind:
        case "segmentation":
            return {"height": max(LEAST_SIDE, 2 * spec.height), "width": max(LEAST_SIDE, 2 * spec.width)}
        case "text_classification":
            return {"length": max(LEAST_LENGTH, 3 * spec.max_length)}
        case "forecasting":
            return {"length": max(LEAST_LENGTH, 3 * spec.context_length)}
        case "image_classification":
            return {}


def check_installed() -> None:
    """Refuse the format where its package is missing, before anything is done.

    Raises:
        MachineError: with the command that installs it.
    """
    if find_spec("executorch") is None:
        raise MachineError(
            f'export.formats names executorch, whose package is not installed; run: pip install "{EXECUTORCH}", or leave it out'
        )


def write_executorch(network: nn.Module, spec: InputSpec, example: Inputs, path: Path) -> None:
    """Write a network, with its preprocessing, as one program.

    Args:
        network: takes raw inputs, in evaluation mode.
        spec: of the data.
        example: inputs of one sample; those of masks of no round size, which would be taken for a promise.
        path: the file.

    Raises:
        MachineError: it cannot be expressed.
    """
    check_installed()
    try:
        with _silent(), torch.no_grad():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            exported = torch.export.export(scanned(network), _longer(example, spec), dynamic_shapes=_free(spec))
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            content = program.to_executorch().buffer
    except Exception as error:  # of the exporter and its backends, without a parent
        raise MachineError(
            f"executorch: {first_line(error)}; the network cannot be expressed: leave executorch out of export.formats"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class ExecutorchFile:
    """A .pte file on ExecuTorch's own runtime; it takes one sample at a time."""

    form = "executorch"

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            IntegrityError: it is damaged.
            MachineError: the runtime's package is missing.
        """
        check_installed()
        self.path = path
        try:
            with _silent():
                from executorch.runtime import Runtime, Verification

                program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
                self.method = program.load_method("forward")
        except Exception as error:  # of the runtime, without a parent
            raise IntegrityError(f"{path}: is no whole ExecuTorch program ({first_line(error)}); export it again") from error
        if self.method is None:
            raise IntegrityError(f"{path}: has no method forward; export it again")

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the logits, or the forecast, for raw inputs, one sample after the other."""
        found = []
        for number in range(len(inputs[0])):
            one = [part[number : number + 1].contiguous() for part in inputs]
            # The runtime's answer lies in memory that its next answer overwrites.
            found.append(self.method.execute(one)[0].clone())
        logits: NDArray[np.float32] = torch.cat(found).numpy()
        return logits

    def inside(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Return nothing: the program is compiled."""
        return []


def _free(spec: InputSpec) -> tuple[dict[int, Any], ...]:
    """Return which axes of each input may have any size, up to the limits."""
    most = {name: torch.export.Dim.AUTO(min=1, max=size) for name, size in limits(spec).items()}
    if spec.kind == "segmentation":
        return ({2: most["height"], 3: most["width"]},)
    return ({1: most["length"]}, {}) if most else ({},)


def _longer(example: Inputs, spec: InputSpec) -> Inputs:
    """Return texts and series three times over: a length of 1 would be taken for a promise."""
    if spec.kind not in ("text_classification", "forecasting"):
        return example
    sequence, lengths = example
    longer: Tensor = torch.cat((sequence, sequence, sequence), dim=1)
    return longer, 3 * lengths


@contextmanager
def _silent() -> Iterator[None]:
    """Keep to themselves what its libraries say of CUDA's and of each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
