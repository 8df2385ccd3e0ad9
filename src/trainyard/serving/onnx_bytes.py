"""What an ONNX file refers to outside of itself, told from its bytes alone, before any library loads it.

A tensor of an ONNX file may lie in another file, at a path that the file states: a crafted one would have any file of this
machine read as weights. The format is that of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/), the
numbers of the fields are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 64
"""Graphs within graphs; deeper ones are taken for an attack on the stack."""
WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages that can hold a tensor, and under which number of a field they hold which others."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor: where it lies in another file, and whether it does."""


def points_elsewhere(model: bytes) -> bool:
    """Whether a tensor anywhere in a model lies in another file.

    Raises:
        ValueError: this is no whole ONNX file.
    """
    return _points_elsewhere(memoryview(model), "model", 0)


def _points_elsewhere(message: memoryview, kind: str, depth: int) -> bool:
    if depth > DEEPEST:
        raise ValueError("graphs are nested too deep")
    for number, value in _fields(message):
        if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
            return True
        inner = WITHIN[kind].get(number)
        if inner is not None:
            if isinstance(value, int):
                raise ValueError(f"field {number} of {kind} is a number")
            if _points_elsewhere(value, inner, depth + 1):
                return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each field of a message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, form = key >> 3, key & 7
        value: memoryview | int
        if form == VARINT:
            value, position = _varint(message, position)
        else:
            if form == BYTES:
                size, position = _varint(message, position)
            elif form in (FIXED32, FIXED64):
                size = 4 if form == FIXED32 else 8
            else:
                raise ValueError(f"a field of the form {form} at byte {position}")
            if position + size > len(message):
                raise ValueError("it is cut off")
            value, position = message[position : position + size], position + size
        yield number, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, the lowest first, and the position behind it."""
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position, value, shift = position + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, position
    raise ValueError("it is cut off")
