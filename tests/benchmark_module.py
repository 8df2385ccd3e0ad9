"""A script of benchmarks/, for tests of what it does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def benchmark(root: Path, name: str) -> ModuleType:
    """Return `benchmarks/NAME.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, root / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
