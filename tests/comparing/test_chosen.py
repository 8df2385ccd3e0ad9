from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.comparing.contenders import contender, elsewhere, pattern
from trainyard.comparing.chosen import asked_the_same, find_test, ranked
from trainyard.data.packed import read_card
from trainyard.evaluation.results import About, Results, sha256_of_test


def test_samples_come_first_on_which_the_models_are_divided_and_none_that_all_get_right(tmp_path: Path) -> None:
    # By sample: which of four models are right of it.
    right = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0]], dtype=bool)
    models = [contender(tmp_path, f"m{number}", column) for number, column in enumerate(right.T)]
    rows, disagreements = ranked(models)
    assert list(rows) == [3, 1, 2]
    assert disagreements == 2


def test_masks_come_first_where_best_and_worst_are_furthest_apart() -> None:
    about = About(
        recipe="u", fingerprint="u-1", kind="segmentation", primary="mean_iou", classes=("no", "yes"), test_sha256="0" * 64
    )
    truth = np.array([[8, 8]] * 3)

    def results(overlaps: list[int]) -> Results:
        overlap = np.array([[count, count] for count in overlaps])
        return Results(about=about, columns={"index": np.arange(3), "overlap": overlap, "truth": truth, "predicted": truth})

    from trainyard.comparing.contender import Contender

    models = [
        Contender(label=name, origin="results", place=name, results=results(overlaps))
        for name, overlaps in (("a", [8, 8, 2]), ("b", [8, 6, 8]))
    ]
    rows, disagreements = ranked(models)
    assert list(rows) == [2, 1, 0] and disagreements == 2


def test_only_models_with_the_same_test_are_shown_side_by_side(tmp_path: Path) -> None:
    right = pattern((True, 5), (False, 5))
    first, other, third = (contender(tmp_path, name, right) for name in ("first", "other", "third"))
    found = asked_the_same([], [first, elsewhere(other), third])
    assert found is not None and [one.label for one in found.contenders] == ["first", "third"]
    assert found.test is None
    assert asked_the_same([], [first, elsewhere(other)]) is None


def test_the_samples_themselves_are_found_by_their_identity(packed_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{}")
    sha256 = sha256_of_test(read_card(packed_digits))
    found = find_test([str(tmp_path / "broken"), str(packed_digits)], sha256)
    assert found is not None and len(found) == 359
    assert find_test([str(packed_digits)], "0" * 64) is None
