"""What the first layers of a classifier give, as further outputs of its graph: the weights stay where they are, and once."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

SHOWN = 3
"""Layers at most."""
POOLS = ("MaxPool", "AveragePool")
READERS = ("Conv", *POOLS, "ReduceMean", "GlobalAveragePool")
"""Operations that take what a layer gave, once it is normalised and activated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One more output."""

    output: str
    label: str


def with_first_layers(model: bytes) -> tuple[bytes, list[Layer]]:
    """Return a graph that gives what its first convolutions lead to, beside its answer, and which outputs these are.

    A layer's maps are taken where the next convolution or pooling reads them: behind normalisation and activation.
    """
    proto = onnx.load_model_from_string(model)
    layers = _first_layers(proto.graph)
    proto.graph.output.extend(onnx.ValueInfoProto(name=layer.output) for layer in layers)
    # In an order that is always the same: equal models give equal files.
    return proto.SerializeToString(deterministic=True), layers


def _first_layers(graph: onnx.GraphProto) -> list[Layer]:
    makers = {output: node for node in graph.node for output in node.output}
    place = {node.output[0]: number for number, node in enumerate(graph.node) if node.output}
    convolutions = [place[node.output[0]] for node in graph.node if node.op_type == "Conv"]
    found: list[Layer] = []
    for node in graph.node:
        if node.op_type not in READERS or not convolutions or place[node.output[0]] <= convolutions[0]:
            continue
        maker = makers.get(node.input[0])
        # What a pooling gives was shown before it; what a bare convolution gives a pooling is not yet a layer's answer.
        if maker is None or maker.op_type in POOLS or (maker.op_type == "Conv" and node.op_type in POOLS):
            continue
        number = sum(convolution <= place[maker.output[0]] for convolution in convolutions)
        if number and node.input[0] not in {layer.output for layer in found}:
            found.append(Layer(output=node.input[0], label=f"Convolution {number}"))
        if len(found) == SHOWN:
            break
    return found
