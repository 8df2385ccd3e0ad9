"""The whole pipeline killed within each of its stages; `benchmarks/killed_repro.py` does it as often as one likes."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmark_module import benchmark

pytestmark = [pytest.mark.pipeline, pytest.mark.faults, pytest.mark.long]
PATIENCE = 150.0
"""Seconds for the last process to end, on a machine with other things to do; ten are promised on one of one's own."""


@pytest.fixture(scope="module")
def killing(root: Path) -> ModuleType:
    """The benchmark, as a module."""
    return benchmark(root, "killed_repro")


@pytest.fixture(scope="module")
def states(killing: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The project before and after each stage of a recipe, uninterrupted."""
    return killing.reference(tmp_path_factory.mktemp("uninterrupted"), 0, "cnn")


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("stage", "victim"), [("prepare", "dvc"), ("train", "stage"), ("evaluate", "group"), ("export", "dvc")]
)
def test_a_repro_killed_in_a_stage_and_run_again_ends_bit_for_bit_the_same(
    killing: ModuleType, states: Any, tmp_path: Path, stage: str, victim: str
) -> None:
    trial = tmp_path / "trial"
    _, left = killing.kill_and_repeat(trial, states, "cnn", stage, victim, random.Random(stage), PATIENCE)
    assert left == []
    assert killing.differences(states["export"][0], trial, "cnn") == []
