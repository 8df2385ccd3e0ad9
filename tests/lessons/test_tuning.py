"""The sweep of the lesson about hyperparameters: that of the product, in one process."""

from __future__ import annotations

import pytest

from trainyard.lessons.catalogue import recipe_file
from trainyard.lessons.tuning import POINTS, grid_of
from trainyard.recipe import read_sweep
from trainyard.studies.searcher import grid, own_values


def test_the_lessons_file_is_one_that_trainyard_sweep_takes() -> None:
    asked = read_sweep(recipe_file("tuning"), "digits")
    assert asked.config.most == POINTS ** len(asked.config.over) and asked.config.metric == "loss"
    assert own_values(asked.recipe, asked.config) is None  # or the first trial were no search


def test_the_grid_has_the_middle_of_equal_parts_of_each_range() -> None:
    config = read_sweep(recipe_file("tuning"), "digits").config
    found = grid_of(config)
    assert found.searcher == "grid" and found.most == len(grid(found)) == POINTS**3
    rates = found.over["train.learning_rate"].choice
    assert rates == pytest.approx((6.813e-4, 0.03162, 1.468), rel=1e-3)
    assert found.over["model.dropout"].choice == pytest.approx((0.05, 0.15, 0.25))
