"""`trainyard predict --address`: the rows, masks and problems of a prediction on Ray are those of one without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv, parquet

from trainyard.errors import InputError
from trainyard.on_ray.place import Place
from trainyard.serving.predict import Summary, predict
from trainyard.serving.predictor import Predictor

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
HERE = Place(address="local")


def both_ways(model: Path, paths: list[Path], folder: Path, name: str) -> tuple[Summary, Summary, Path, Path]:
    """Predict without Ray, and with one."""
    from trainyard.on_ray.bulk import predict as predict_on_ray

    alone, spread = folder / "alone" / name, folder / "spread" / name
    first = predict(Predictor.load(model, threads=1), paths, alone)
    done: list[int] = []
    second = predict_on_ray(model, "fp32", paths, spread, HERE, progress=done.append)
    assert done[-1] == second.answered + second.bad and sorted(done) == done
    return first, second, alone, spread


def rows(path: Path) -> list[dict[str, Any]]:
    table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    return sorted(table.to_pylist(), key=lambda row: (row["input"], row.get("step") or 0))


def assert_same(alone: Path, spread: Path) -> None:
    ours, theirs = rows(spread), rows(alone)
    assert [row["input"] for row in ours] == [row["input"] for row in theirs]
    for found, expected in zip(ours, theirs, strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, float | list):
                # What else is in a call of the network may change the last digits.
                assert np.allclose(found[key], value, atol=1e-5, rtol=1e-5), (found, expected)
            else:
                assert found[key] == value, (found, expected)


def test_images_get_the_same_rows_and_bad_ones_the_same_problems(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["photos"].parents[1])
    bad = tmp_path / "bad"
    bad.mkdir()
    for number in range(13):
        (bad / f"{number}.png").write_bytes(b"no image" * number)
    first, second, alone, spread = both_ways(models["photos"], [Path("raw"), bad], tmp_path, "out.parquet")
    assert (second.answered, second.bad, second.labels) == (first.answered, first.bad, first.labels) == (54, 13, first.labels)
    assert len(second.first) == 10 and set(second.first) <= {f"{row['input']}: {row['problem']}" for row in rows(alone)}
    assert_same(alone, spread)
    assert parquet.read_schema(spread).equals(parquet.read_schema(alone), check_metadata=True)


def test_masks_have_the_same_names_and_pixels(models: dict[str, Path], tmp_path: Path) -> None:
    images = models["cells"].parents[1] / "raw" / "images"
    first, second, alone, spread = both_ways(models["cells"], [images], tmp_path, "out.parquet")
    assert (second.answered, second.bad) == (first.answered, first.bad) == (18, 0)
    assert_same(alone, spread)
    masks = [{path.name: path.read_bytes() for path in (out.parent / "out-masks").iterdir()} for out in (alone, spread)]
    assert masks[0] == masks[1] and len(masks[0]) == 18
    assert all((spread.parent / row["mask"]).is_file() for row in rows(spread))


def test_texts_and_series_of_tables_get_the_same_rows_also_as_csv(models: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    lines = ["title,body", *(f'"fine {number}","warm, and {number}"' for number in range(300)), ",", "one,two,three"]
    table.write_text("\n".join(lines) + "\n")
    first, second, alone, spread = both_ways(models["reviews"], [table], tmp_path, "out.csv")
    assert (second.answered, second.bad) == (first.answered, first.bad) == (300, 2)
    assert_same(alone, spread)
    first, second, alone, spread = both_ways(models["load"], [models["load"].parents[1] / "raw.csv"], tmp_path, "load.parquet")
    assert (second.answered, second.bad) == (first.answered, first.bad) == (1, 0)
    assert_same(alone, spread)


def test_what_cannot_be_asked_about_leaves_no_file(models: dict[str, Path], tmp_path: Path) -> None:
    from trainyard.on_ray.bulk import predict as predict_on_ray

    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        predict_on_ray(models["photos"], "fp32", [tmp_path / "nowhere"], tmp_path / "out.parquet", HERE)
    with pytest.raises(InputError, match="nothing there that photos takes; it takes images"):
        predict_on_ray(models["photos"], "fp32", [tmp_path], tmp_path / "out.parquet", HERE)
    assert list(tmp_path.iterdir()) == []
