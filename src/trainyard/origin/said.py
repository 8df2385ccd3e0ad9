"""What a file of ours says of itself, wherever it lies: the fingerprint of its training, its run, its data. Runs nothing."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

HEADER_BYTES = 100 * 2**20
"""Most that safetensors allows."""
JSON_BYTES = 64 * 2**20
NAMES = {"fingerprint": "fingerprint", "run_key": "run_key", "run_id": "run_id"}


def said_by(path: Path) -> dict[str, str]:
    """Return fingerprint, run_key, run_id or data_sha256, as far as a file holds them; nothing where it is of another kind."""
    readers = {".safetensors": _safetensors, ".onnx": _onnx, ".parquet": _parquet, ".json": _json}
    reader = readers.get(path.suffix)
    if reader is None:
        return {}
    try:
        return {key: value for key, value in reader(path).items() if value and isinstance(value, str)}
    except Exception:  # a file that is damaged or of another kind: its reader says so in its own way
        return {}


def _safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size)) if size <= HEADER_BYTES else {}
    return {"fingerprint": header.get("__metadata__", {}).get("trainyard.fingerprint")}


def _onnx(path: Path) -> dict[str, Any]:
    import onnx

    model = onnx.load(path, load_external_data=False)
    return {"fingerprint": next((entry.value for entry in model.metadata_props if entry.key == "fingerprint"), None)}


def _parquet(path: Path) -> dict[str, Any]:
    from pyarrow import parquet

    about = (parquet.read_schema(path).metadata or {}).get(b"trainyard", b"{}")
    return {"fingerprint": json.loads(about).get("fingerprint")}


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > JSON_BYTES:
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    found = {name: values.get(key) for key, name in NAMES.items()}
    if "arrays" in values and "samples" in values:
        # The card of packed data.
        found["data_sha256"] = values.get("sha256")
    with suppress(AttributeError, KeyError, TypeError):
        found["data_sha256"] = values["data"]["sha256"]
    return found
