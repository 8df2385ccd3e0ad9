from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics.cluster import pair_confusion_matrix

from trainyard.evaluation.rand_error import THRESHOLDS, RandError, choose, rand_score


def drawing(*rows: str) -> np.ndarray:
    """Return where the rows of a drawing show a cell."""
    return np.array([[sign == "#" for sign in row] for row in rows])


TWO_CELLS = drawing("##.##", "##.##")


def test_equal_segmentations_have_no_error() -> None:
    assert rand_score(TWO_CELLS, TWO_CELLS) == 1


def test_two_cells_that_are_joined_cost_as_the_definition_says() -> None:
    joined = drawing("#####", "##.##")
    # Of 8 pixels in two cells, all are found in one: sum n_ij^2 = 2 * 4^2, true cells 2 * 4^2, the found one 8^2.
    assert rand_score(TWO_CELLS, joined) == pytest.approx(2 * 32 / (32 + 64))


def test_a_cell_that_is_cut_costs_as_the_definition_says() -> None:
    cut = drawing("#.#", "#.#", "#.#")
    # Of 9 pixels two times 3 are found, and 3 are alone: sum n_ij^2 = 3^2 + 3^2 + 3 * 1^2 = 21 = found cells, true cell 9^2.
    assert rand_score(np.ones((3, 3), dtype=bool), cut) == pytest.approx(2 * 21 / (81 + 21))


def test_cells_that_touch_at_a_corner_alone_are_two() -> None:
    corner = drawing("#.", ".#")
    assert rand_score(corner, np.ones((2, 2), dtype=bool)) == pytest.approx(2 * 2 / (2 + 4))


def test_what_is_found_where_no_cell_is_costs_nothing() -> None:
    assert rand_score(drawing("##..."), drawing("##.##")) == 1


def test_borders_that_are_too_thick_cost_less_than_joined_cells() -> None:
    truth = drawing("#####.#####", "#####.#####", "#####.#####")
    thick = drawing("####...####", "####...####", "####...####")
    joined = np.ones_like(truth)
    assert 1 > rand_score(truth, thick) > rand_score(truth, joined)


def test_nothing_found_or_nothing_to_find_has_a_score() -> None:
    empty = np.zeros_like(TWO_CELLS)
    assert rand_score(TWO_CELLS, empty) == pytest.approx(2 * 8 / (32 + 8))
    assert rand_score(empty, TWO_CELLS) == 1


def test_scores_agree_with_pairs_counted_by_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        truth, found = (rng.random((2, 20, 20)) < 0.7)[:2]
        inside = truth
        true_cells, cells = label(truth)[0], label(found)[0]
        alone = cells == 0
        cells[alone] = cells.max() + 1 + np.arange(alone.sum())
        # Ordered pairs of two pixels; of a pixel with itself there are as many as pixels.
        counted = pair_confusion_matrix(true_cells[inside], cells[inside])
        itself = int(inside.sum())
        both, found_only, true_only = counted[1, 1] + itself, counted[0, 1], counted[1, 0]
        assert rand_score(truth, found) == pytest.approx(2 * both / (2 * both + found_only + true_only))


def probabilities(cell: np.ndarray) -> np.ndarray:
    """Return probabilities (1, 2, H, W) of ground and cell."""
    return np.stack([1 - cell, cell])[None]


def test_the_threshold_is_the_one_that_parts_the_cells_of_the_other_split() -> None:
    # The pixels between the cells are thought to be cells at 0.72: only thresholds above that keep the cells apart.
    cell = np.where(TWO_CELLS, 0.9, 0.72)
    found = choose([probabilities(cell), probabilities(cell)], np.stack([TWO_CELLS, TWO_CELLS]).astype(np.uint8), foreground=1)
    assert found == RandError(foreground=1, threshold=0.75)
    assert found.of(probabilities(cell), TWO_CELLS[None].astype(np.uint8)).tolist() == [0]
    assert RandError(foreground=1, threshold=0.5).of(probabilities(cell), TWO_CELLS[None].astype(np.uint8))[0] > 0.3


def test_the_foreground_may_be_the_first_class() -> None:
    cell = np.where(TWO_CELLS, 0.9, 0.1)
    masks = (~TWO_CELLS)[None].astype(np.uint8)
    assert RandError(foreground=0, threshold=0.5).of(probabilities(1 - cell), masks).tolist() == [0]


def test_thresholds_leave_none_and_all_out() -> None:
    assert THRESHOLDS[0] == 0.05 and THRESHOLDS[-1] == 0.95 and 0.5 in THRESHOLDS
