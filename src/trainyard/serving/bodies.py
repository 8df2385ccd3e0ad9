"""Bodies of requests to raw inputs: JSON, or files in a form. What is wrong is said with the field's name, whatever it is."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from typing import Any

from pydantic_core import from_json
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from trainyard.serving.bad_input import BadInput

KEY_END = re.compile(rb'"\s*:')
"""Ends every key, and may stand within a text."""


class Malformed(Exception):
    """A body that is not of the type that its head says."""

    def __init__(self, found: str, expected: str, status: int = 400) -> None:
        super().__init__(f"{found}; {expected}")
        self.found, self.expected, self.status = found, expected, status


def read_body(body: bytes, content_type: str, field: str, most: int) -> list[Any]:
    """Return the raw inputs in a body.

    Args:
        body: all of it.
        content_type: as its head says.
        field: the name of the inputs: images, texts or series.
        most: inputs of one request.

    Raises:
        Malformed: it cannot be read, or is of another type.
        BadInput: a field is missing, is of the wrong kind, or holds too many.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data" and field == "images":
        return _form(body, content_type, most)
    if kind != "application/json":
        forms = "application/json or multipart/form-data" if field == "images" else "application/json"
        raise Malformed(f"content-type {kind or 'missing'}", f"send {forms}", 415)
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Malformed(f"no JSON ({error})", f'send {{"{field}": [...]}}') from None
    if not isinstance(values, dict):
        raise BadInput("body", f"a {type(values).__name__}", f'expected an object {{"{field}": [...]}}', "not-an-object")
    _check_keys(body, values)
    for key in values:
        if key != field:
            raise BadInput(str(key)[:80], "no such field", f"expected {field}", "unknown-field")
    inputs = values.get(field)
    if not isinstance(inputs, list):
        found = "nothing" if inputs is None else f"a {type(inputs).__name__}"
        raise BadInput(field, found, f"expected a list of {field}", "not-a-list")
    _check_count(len(inputs), field, most)
    return [_image(value, f"{field}[{number}]") for number, value in enumerate(inputs)] if field == "images" else inputs


def _check_keys(body: bytes, values: dict[str, Any]) -> None:
    """Refuse an object with a key twice, of which only the last one would be read."""
    written = len(KEY_END.findall(body))
    if written == len(values) or written == _keys(values):
        return
    # Slower, and seldom needed.
    json.loads(body, object_pairs_hook=_object)


def _keys(values: Any) -> int:
    """Return how many keys all objects in a value have."""
    if isinstance(values, dict):
        return len(values) + sum(_keys(value) for value in values.values() if isinstance(value, (dict, list)))
    return sum(_keys(value) for value in values if isinstance(value, (dict, list)))


def _object(pairs: list[tuple[str, Any]]) -> None:
    key, count = Counter(key for key, _ in pairs).most_common(1)[0] if pairs else ("", 1)
    if count > 1:
        raise BadInput(key[:80], f"stands {count} times in one object", "expected each key once", "doubled-key")


def _check_count(count: int, field: str, most: int) -> None:
    if not 1 <= count <= most:
        raise BadInput(field, f"{count} of them", f"expected 1 to {most}", "count")


def _image(value: object, field: str) -> bytes:
    """Return the bytes of an image in base64, with or without `data:image/png;base64,` before it."""
    if not isinstance(value, str):
        raise BadInput(field, f"a {type(value).__name__}", "expected an image file in base64", "not-base64")
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(field, f"no base64 ({error})", "expected an image file in base64", "not-base64") from None


def _form(body: bytes, content_type: str, most: int) -> list[bytes]:
    """Return the files of a form, all of whose fields are called images."""
    parts = _parts(body, content_type, most)
    for name, _, _ in parts:
        if name != "images":
            raise BadInput(name[:80], "no such field", "expected files in fields called images", "unknown-field")
    for number, (_, is_file, _) in enumerate(parts):
        if not is_file:
            raise BadInput(f"images[{number}]", "a text", "expected a file, as curl -F images=@FILE sends it", "not-a-file")
    _check_count(len(parts), "images", most)
    return [content for _, _, content in parts]


def _parts(body: bytes, content_type: str, most: int) -> list[tuple[str, bool, bytes]]:
    """Return the name of each part of a form, whether it is a file, and its content."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Malformed("a form without a boundary in its content-type", "let the client write the content-type")
    parts: list[tuple[str, bool, bytearray]] = []
    key, value, disposition = bytearray(), bytearray(), bytearray()
    ended: list[bool] = []

    def begin() -> None:
        if len(parts) > most:
            raise BadInput("images", f"more than {most}", f"expected 1 to {most}", "count")
        disposition.clear()
        parts.append(("", False, bytearray()))

    def end_header() -> None:
        if key.lower() == b"content-disposition":
            disposition[:] = value
        key.clear()
        value.clear()

    def end_head() -> None:
        options = parse_options_header(bytes(disposition))[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        parts[-1] = (name, b"filename" in options, parts[-1][2])

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, end: key.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": end_header,
                "on_headers_finished": end_head,
                "on_part_data": lambda data, start, end: parts[-1][2].extend(data[start:end]),
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Malformed(f"no whole form ({error})", "send multipart/form-data, as curl -F images=@FILE does") from None
    if not ended:
        raise Malformed("a form that is cut off", "send all of it, up to the last boundary")
    return [(name, is_file, bytes(content)) for name, is_file, content in parts]
