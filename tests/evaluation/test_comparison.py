from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from tests.evaluation.comparing import ABOUT, about, write_labels
from trainyard.errors import InputError
from trainyard.evaluation.comparison import Difference, differences, mcnemar
from trainyard.evaluation.metrics import Estimate
from trainyard.evaluation.results import Results


def pair(tmp_path: Path, both: int, first: int, second: int, neither: int) -> tuple[Results, Results]:
    """Return the results of two models that are right on so many samples."""
    right = np.repeat([[True, True], [True, False], [False, True], [False, False]], [both, first, second, neither], axis=0)
    return (
        write_labels(tmp_path / "one.parquet", right[:, 0], about("one")),
        write_labels(tmp_path / "two.parquet", right[:, 1], about("two")),
    )


def test_mcnemars_test_is_that_of_a_fair_coin_over_the_samples_where_they_disagree(tmp_path: Path) -> None:
    found = mcnemar(*pair(tmp_path, both=80, first=9, second=2, neither=9))
    assert (found.first_alone, found.second_alone) == (9, 2)
    assert found.probability == pytest.approx(2 * binom.cdf(2, 11, 0.5))


def test_a_sure_difference_is_seen_though_both_intervals_overlap(tmp_path: Path) -> None:
    one, two = pair(tmp_path, both=180, first=12, second=0, neither=8)
    found = differences(one, two, 2000, 0)
    assert found[0].metric == "accuracy"
    assert found[0].difference.value == pytest.approx(0.06)
    assert found[0].difference.low > 0
    assert found[0].better == 1 and mcnemar(one, two).probability < 0.001
    assert differences(two, one, 2000, 0)[0].better == -1


def test_a_difference_that_chance_explains_is_none(tmp_path: Path) -> None:
    one, two = pair(tmp_path, both=160, first=12, second=9, neither=19)
    assert differences(one, two, 1000, 0)[0].better == 0
    assert mcnemar(one, two).probability > 0.5


def test_models_that_say_the_same_differ_by_nothing(tmp_path: Path) -> None:
    one, two = pair(tmp_path, both=30, first=0, second=0, neither=10)
    for found in differences(one, two, 200, 0):
        assert (found.difference.low, found.difference.value, found.difference.high) == (0, 0, 0)
    assert mcnemar(one, two).probability == 1


def test_of_an_error_the_lower_one_is_better() -> None:
    found = Difference(metric="mse", first=0.3, second=0.4, difference=Estimate(-0.1, -0.12, -0.08))
    assert found.better == 1


def test_forecasts_are_compared_by_runs_of_windows() -> None:
    rng = np.random.default_rng(0)
    # A difference that stays the same for runs of fifty windows: sixteen of them say little, 800 would say much.
    noise = np.repeat(rng.normal(0.06, 0.2, 16), 50)
    errors = 1 + rng.random(800)
    series = replace(ABOUT, kind="forecasting", primary="mse", classes=("load",), block=50)
    columns = {"index": np.arange(800), "mse": errors, "mae": errors}
    one = Results(about=series, columns=columns)
    two = Results(about=replace(series, recipe="two"), columns={**columns, "mse": errors + noise})
    width = {}
    for block in (1, 50):
        pair = (replace(results, about=replace(results.about, block=block)) for results in (one, two))
        width[block] = differences(*pair, 500, 0)[0].difference
    assert width[50].high - width[50].low > 3 * (width[1].high - width[1].low)


def test_models_that_were_tested_on_other_samples_are_not_compared(tmp_path: Path) -> None:
    one, two = pair(tmp_path, 10, 1, 1, 1)
    other = Results(about=replace(two.about, test_sha256="1" * 64), columns=two.columns)
    with pytest.raises(InputError, match="one and two: were not tested on the same samples"):
        differences(one, other, 10, 0)
    with pytest.raises(InputError, match="were not tested on the same samples"):
        mcnemar(one, other)
    with pytest.raises(InputError, match="have no metric in common"):
        differences(one, Results(about=replace(two.about, kind="segmentation"), columns=two.columns), 10, 0)
