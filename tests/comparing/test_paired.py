from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.comparing.contenders import contender, elsewhere, pattern
from trainyard.comparing.paired import held_against_first, holm
from trainyard.evaluation.comparison import differences, mcnemar

BASE = pattern((True, 80), (False, 20))
BETTER = pattern((True, 79), (False, 1), (True, 10), (False, 10))
"""Right on ten samples that BASE gets wrong, wrong on one that it gets right: p = 0.012."""


def test_of_two_models_all_is_as_the_two_alone_are_compared(tmp_path: Path) -> None:
    first, other = contender(tmp_path, "first", BASE), contender(tmp_path, "other", BETTER)
    found = held_against_first([first, other], 500).pairs["other"]
    assert first.results is not None and other.results is not None
    alone = differences(other.results, first.results, 500, 0)
    assert found.differences[: len(alone)] == tuple(alone)
    assert found.mcnemar == mcnemar(other.results, first.results)
    assert found.adjusted == pytest.approx(found.mcnemar.probability)
    assert found.better == 1 and found.verdict.startswith("other is better (other less first: accuracy +0.0900, 95 %")


def test_also_loss_and_brier_score_are_paired_and_less_of_them_is_better(tmp_path: Path) -> None:
    found = held_against_first([contender(tmp_path, "a", BASE), contender(tmp_path, "b", BETTER)], 500).pairs["b"]
    by_name = {one.metric: one.difference for one in found.differences}
    assert list(by_name) == ["accuracy", "macro_f1", "loss", "brier"]
    # Each mistake costs ln(0.8/0.2) nats more, nine of a hundred are gone.
    assert by_name["loss"].value == pytest.approx(-0.09 * np.log(4))
    assert by_name["brier"].high < 0


def test_the_more_models_are_asked_of_the_surer_a_difference_must_be(tmp_path: Path) -> None:
    first, other = contender(tmp_path, "first", BASE), contender(tmp_path, "other", BETTER)
    same = [contender(tmp_path, f"same{number}", BASE) for number in range(8)]
    few, many = held_against_first([first, other], 500), held_against_first([first, other, *same], 500)
    assert few.pairs["other"].better == 1
    assert many.pairs["other"].better == 0
    assert many.pairs["other"].adjusted == pytest.approx(9 * few.pairs["other"].adjusted)  # type: ignore[operator]
    assert many.pairs["other"].verdict.startswith("no difference can be told")


def test_probabilities_are_adjusted_as_holm_does() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_a_model_that_was_tested_on_other_samples_is_not_held_against_the_first(tmp_path: Path) -> None:
    first, other = contender(tmp_path, "first", BASE), elsewhere(contender(tmp_path, "other", BETTER))
    untested = replace(contender(tmp_path, "untested", BASE), results=None)
    found = held_against_first([first, other, untested], 200)
    assert found.pairs == {}
    assert set(found.scores) == {"first", "other"}


def test_nothing_is_paired_with_a_first_model_that_was_not_tested(tmp_path: Path) -> None:
    first = replace(contender(tmp_path, "first", BASE), results=None)
    assert held_against_first([first, contender(tmp_path, "other", BETTER)], 200).pairs == {}
