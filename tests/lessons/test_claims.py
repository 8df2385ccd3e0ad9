"""Each claim, for five seeds; and that it can fail, for a change that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_figures import is_drawn
from trainyard.lessons.catalogue import LESSONS, load, recipes_of
from trainyard.lessons.run import cells

SEEDS = range(5)
QUICK = {"feedback-loop", "receptive-field", "layers"}
"""Under two seconds a seed."""
BROKEN: dict[str, tuple[str, ...]] = {
    "layers": ("train.learning_rate=1e-7",),
    "feedback-loop": ("train.learning_rate=5",),
    "initialisation": ("model.normalisation=group", "train.epochs=1"),
    "activation": ("rings.model.widths=[2]",),
    "cost": ("train.batch_size=full",),
    "batches": ("train.learning_rate=1e-5",),
    "learning-rate": ("train.epochs=1",),
    "depth": ("model.kernel_size=7",),
    "data": ("train.epochs=1",),
    "tuning": ("train.batch_size=full",),
    "shift": ("train.epochs=1",),
    "unet": ("model.skip_connections=false", "train.epochs=1"),
    "receptive-field": ("model.normalisation=group",),
    "memory": ("copying.model.forget_gate_bias=-2",),
    "deployment": ("train.learning_rate=1e-7",),
}
"""Changes after which a claim no longer holds."""


Found = Callable[..., Any]


@pytest.fixture(scope="session")
def found(lesson_root: Path) -> Found:
    """What is measured of a lesson: once, whichever tests ask."""

    @cache
    def measured(name: str, seed: int, *changes: str) -> Any:
        return load(name).measure(recipes_of(name, lesson_root / ".trainyard" / name, seed, changes), lesson_root)

    return measured


def cases(names: Any) -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long]) for name in names]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", cases(LESSONS))
def test_the_claim_holds(name: str, seed: int, found: Found) -> None:
    finding = found(name, seed)
    assert load(name).holds(finding), cells([load(name).table(finding)])


@pytest.mark.parametrize("name", cases(BROKEN))
def test_the_claim_can_fail(name: str, found: Found) -> None:
    finding = found(name, 0, *BROKEN[name])
    assert not load(name).holds(finding), cells([load(name).table(finding)])


@pytest.mark.parametrize("name", cases(LESSONS))
def test_the_figure_is_drawn_and_the_numbers_are_numbers(name: str, found: Found, tmp_path: Path) -> None:
    lesson = load(name)
    finding = found(name, 0)
    picture = lesson.draw(finding, tmp_path / f"{name}.png")
    assert is_drawn(picture)
    assert picture.stat().st_size < 150_000
    for row, values in lesson.table(finding).rows.items():
        assert all(value == value for value in values), row
