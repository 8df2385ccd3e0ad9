from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.evaluation.comparing import ABOUT, write_labels
from trainyard.data.packed import Card, Split, write_arrays
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation.metrics import scores, total
from trainyard.evaluation.predictions import mask_predictions
from trainyard.evaluation.result_columns import mask_columns
from trainyard.evaluation.results import COMPARED, read_results, sha256_of_test, write_compared, write_results
from trainyard.evaluation.samples import sample_iou


def test_a_table_of_labels_reads_like_one(tmp_path: Path) -> None:
    write_labels(tmp_path / "r.parquet", np.array([True, False, True]))
    rows = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row["label"] for row in rows] == ["a", "b", "a"]
    assert [row["prediction"] for row in rows] == ["a", "a", "a"]
    assert [row["correct"] for row in rows] == [True, False, True]
    assert rows[1]["probabilities"] == pytest.approx([0.8, 0.2])
    assert rows[1]["confidence"] == pytest.approx(0.8)
    assert rows[1]["loss"] == pytest.approx(-np.log(0.2))


def test_the_metrics_of_masks_can_be_made_of_the_table_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), (7, 6, 6)).transpose(0, 3, 1, 2)
    masks = rng.integers(0, 3, (7, 6, 6)).astype(np.uint8)
    predictions = mask_predictions([probabilities], masks)
    about = replace(ABOUT, kind="segmentation", primary="mean_iou", classes=("ground", "a", "b"))
    test = Split("segmentation", "test", {"masks": masks})
    write_results(tmp_path / "r.parquet", about, test, mask_columns(predictions, sample_iou(predictions.counts)))
    found = scores("segmentation", total(read_results(tmp_path / "r.parquet").counts()))
    expected = scores("segmentation", total(predictions.counts))
    assert found["mean_iou"] == expected["mean_iou"] and found["dice"] == expected["dice"]


def test_what_is_compared_is_less_than_the_whole_and_says_the_same(tmp_path: Path) -> None:
    whole = write_labels(tmp_path / "whole.parquet", np.random.default_rng(0).random(3000) < 0.8)
    write_compared(tmp_path / "whole.parquet", tmp_path / "small.parquet")
    small = read_results(tmp_path / "small.parquet")
    assert small.about == whole.about
    assert set(parquet.read_schema(tmp_path / "small.parquet").names) == set(COMPARED["image_classification"])
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(small.columns[name], values)


def test_a_column_that_misses_a_sample_is_never_written(tmp_path: Path) -> None:
    test = Split("image_classification", "test", {"labels": np.zeros(4, dtype=np.int64)})
    with pytest.raises(ValueError, match="label: holds 3 values for 4 samples"):
        write_results(tmp_path / "r.parquet", ABOUT, test, {"label": np.zeros(3, dtype=np.int64)})
    assert not (tmp_path / "r.parquet").exists()


def test_a_file_that_holds_a_sample_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_labels(path, np.ones(4, dtype=bool))
    table = parquet.read_table(path)
    parquet.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    with pytest.raises(IntegrityError, match="does not hold each sample once"):
        read_results(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"{}"])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.parquet").write_bytes(content)
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_results(tmp_path / "r.parquet")


def test_a_recipe_without_results_is_sent_to_its_evaluation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; run `dvc repro` to evaluate the recipe"):
        read_results(tmp_path / "r.parquet")


def card(folder: Path, **test: np.ndarray) -> Card:
    values = json.loads(json.dumps({"test": write_arrays(folder, "test", test)}))
    return Card(
        name="n",
        source="s",
        kind="text_classification",
        about="",
        classes=("a", "b"),
        counts={},
        samples={},
        input={},
        normalisation={},
        libraries={},
        arrays=values,
        files={},
        duplicates_dropped=0,
        sha256="",
    )


def test_texts_are_the_same_however_their_words_are_numbered(tmp_path: Path) -> None:
    text, labels = np.frombuffer(b"good bad", dtype=np.uint8), np.array([0, 1])
    arrays = {"text": text, "labels": labels}
    one = sha256_of_test(card(tmp_path / "one", **arrays, tokens=np.array([2, 3]), offsets=np.array([0, 1, 2])))
    other = sha256_of_test(card(tmp_path / "other", **arrays, tokens=np.array([7, 8, 9]), offsets=np.array([0, 2, 3])))
    assert one == other
    assert sha256_of_test(card(tmp_path / "labels", **{**arrays, "labels": labels[::-1].copy()})) != one
    assert sha256_of_test(card(tmp_path / "text", **{**arrays, "text": text[::-1].copy()})) != one
