"""Whether a worker on another node runs what the driver runs: another version computes another result, or fails half-way."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numpy", "pytorch-lightning", "ray", "safetensors", "torch", "torchmetrics")
"""Those that a worker computes, saves and talks with."""
CODE = "trainyard's code"


def versions() -> dict[str, str]:
    """Return the version of each thing that must be the same on all nodes."""
    found = {"python": platform.python_version(), CODE: _code()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def difference(here: dict[str, str], there: dict[str, str], node: str) -> str:
    """Return what is wrong with a node, or nothing: package, what it has, and what the driver has."""
    other = [name for name in here if there.get(name) != here[name]]
    if not other:
        return ""
    listed = ", ".join(f"{name} {there.get(name, 'none')} (here: {here[name]})" for name in other)
    return f"node {node} has {listed}; install the same there as on this machine, then run the same command again"


def _code() -> str:
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
