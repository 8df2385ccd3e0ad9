"""Models to compare, made of files of results as `evaluate` writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.comparing import about, write_labels
from trainyard.comparing.contender import Contender, read_details


def contender(folder: Path, name: str, right: np.ndarray, **changes: Any) -> Contender:
    """Return a model of two classes that gets some samples right (N,)."""
    path = folder / f"{name}.parquet"
    results = write_labels(path, right, about(name))
    made = Contender(label=name, origin="recipe", place=f"recipe {name}", results=results, details=read_details(path))
    return replace(made, **changes)


def elsewhere(made: Contender) -> Contender:
    """Return the same model as if it had been tested on other samples."""
    assert made.results is not None
    return replace(made, results=replace(made.results, about=replace(made.results.about, test_sha256="1" * 64)))


def pattern(*counts: tuple[bool, int]) -> np.ndarray:
    """Return which samples are right: so many of each, one after the other."""
    return np.concatenate([np.full(count, right) for right, count in counts])
