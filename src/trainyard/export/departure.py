"""Where an exported file begins to compute something else than the network that it was made from.

The layers of the network and the intermediate results of the file are matched by what they hold, not by names, which
exporters change: a layer's output is found again where the file computes an array of its shape that is the same.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainyard.export.inputs import Inputs
from trainyard.export.opened import Opened

PREPROCESSING = "the preprocessing"
ROUNDED = 0.1
"""Share of a layer's output by which 8 bits may change it and still be taken for the same."""


def first_departure(network: nn.Module, opened: Opened, inputs: Inputs, tolerance: float | None) -> str:
    """Return in words which layer is the first whose output a file does not have.

    Args:
        network: takes raw inputs, in evaluation mode.
        opened: the file.
        inputs: raw inputs for which they differ.
        tolerance: by how much a value may differ, relative to the layer's largest where that is above 1; None for 8-bit files.
    """
    found: dict[tuple[int, ...], list[NDArray[Any]]] = {}
    for value in opened.inside(inputs):
        if value.dtype.kind == "f":
            found.setdefault(value.shape, []).append(value)
    layers = [(name, value) for name, value in layer_outputs(network, inputs) if value.shape in found]
    if not layers:
        return "no layer's output could be found in it"
    same = [any(_equal(value, other, tolerance) for other in found[value.shape]) for _, value in layers]
    for place, (name, _) in enumerate(layers):
        # One that is not there may be fused with the next: then what depends on it is there all the same.
        if not same[place] and not _later_is_same(network, inputs, layers, same, place):
            before = f", after {layers[place - 1][0]}, which is the same" if place and same[place - 1] else ""
            return f"the first layer to depart is {name}{before}"
    return f"the first to depart is what comes after the last layer, {layers[-1][0]}"


def _later_is_same(
    network: nn.Module, inputs: Inputs, layers: list[tuple[str, NDArray[np.float32]]], same: list[bool], place: int
) -> bool:
    """Whether the file has the output of a later layer that depends on this one."""
    others = dict(layer_outputs(network, inputs, disturbed=layers[place][0]))
    return any(
        equal and not np.array_equal(others[name], value)
        for (name, value), equal in zip(layers[place + 1 :], same[place + 1 :], strict=True)
    )


def layer_outputs(network: nn.Module, inputs: Inputs, disturbed: str | None = None) -> list[tuple[str, NDArray[np.float32]]]:
    """Return what each layer of a network gives, in the order in which they are computed, behind what goes into the first.

    Args:
        network: takes raw inputs, in evaluation mode.
        inputs: raw inputs.
        disturbed: the layer to whose output something is added, so that what depends on it becomes another.
    """
    listener = _Listener(disturbed)
    handles = []
    for path, layer in network.named_modules():
        if not list(layer.children()):
            name = f"{path} ({type(layer).__name__})"
            handles.append(layer.register_forward_pre_hook(listener.before))
            handles.append(layer.register_forward_hook(functools.partial(listener.after, name)))
    try:
        with torch.inference_mode():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return listener.outputs


class _Listener:
    """Notes down what layers give, and adds something to what one of them gives."""

    def __init__(self, disturbed: str | None) -> None:
        self.disturbed = disturbed
        self.outputs: list[tuple[str, NDArray[np.float32]]] = []
        self.calls: Counter[str] = Counter()

    def before(self, layer: nn.Module, taken: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Note down what goes into the first layer that takes numbers with a fraction."""
        if self.outputs or not taken or not _is_floating(taken[0]):
            return None
        return (self._noted(PREPROCESSING, taken[0]), *taken[1:])

    def after(self, name: str, layer: nn.Module, taken: tuple[Any, ...], given: Any) -> Any:
        """Note down what a layer gives, of several results the first."""
        result = given[0] if isinstance(given, tuple) else given
        self.calls[name] += 1
        # A network that looks at an image in several positions has each layer as often.
        name = name if self.calls[name] == 1 else f"{name}, call {self.calls[name]}"
        if not _is_floating(result):
            return None
        noted = self._noted(name, result)
        return (noted, *given[1:]) if isinstance(given, tuple) else noted

    def _noted(self, name: str, value: Tensor) -> Tensor:
        self.outputs.append((name, value.numpy().copy()))
        return value + torch.linspace(1, 2, value.numel()).view(value.shape) if name == self.disturbed else value


def _is_floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _equal(value: NDArray[Any], other: NDArray[Any], tolerance: float | None) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(value.astype(np.float64) - other)
    largest = float(np.abs(value).max(initial=0.0))
    if tolerance is None:
        return bool(np.linalg.norm(difference) <= ROUNDED * max(float(np.linalg.norm(value.astype(np.float64))), 1e-12))
    return bool(difference.max(initial=0.0) <= tolerance * max(1.0, largest))
