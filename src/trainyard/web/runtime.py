"""onnxruntime-web as it is kept in this package: checked against its lock before it goes anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import IntegrityError

RUNTIME = Path(__file__).with_name("runtime")
SCRIPT, WASM = "ort.wasm.bundle.min.js", "ort-wasm-simd-threaded.wasm.gz"
LICENCE, NOTICES = "LICENSE.txt", "notices.txt.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The files of one version."""

    name: str
    version: str
    files: dict[str, bytes]
    """Script and WebAssembly."""
    wasm_integrity: str
    """Of the packed file or of what is in it: some hosts unpack it on the way."""
    licences: str
    """Of all of it."""


def read_runtime(folder: Path = RUNTIME) -> Runtime:
    """Return the runtime that is kept in this package.

    Raises:
        IntegrityError: a file is missing, or is not the one that was put there.
    """
    again = "install trainyard again"
    try:
        lock: dict[str, Any] = json.loads((folder / "lock.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in lock["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder}: has not all files of the runtime ({error}); {again}") from None
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != lock["files"][name]["sha256"]:
            raise IntegrityError(f"{folder / name}: is not the file that lock.json lists; {again}")
    unpacked = bytes.fromhex(lock["files"][WASM]["unpacked_sha256"])
    return Runtime(
        name=lock["name"],
        version=lock["version"],
        files={name: files[name] for name in (SCRIPT, WASM)},
        wasm_integrity=f"{integrity(files[WASM])} sha256-{base64.b64encode(unpacked).decode()}",
        licences=f"{files[LICENCE].decode()}\n\n{gzip.decompress(files[NOTICES]).decode()}",
    )


def integrity(content: bytes) -> str:
    """Return the hash of a file as browsers compare it (https://www.w3.org/TR/SRI)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
