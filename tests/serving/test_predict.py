"""`trainyard predict`: files of any number into one file, with what could not be answered beside what could."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from trainyard.cli import app
from trainyard.errors import InputError, MachineError
from trainyard.serving.answers import Forecast, Label, Mask
from trainyard.serving.batch_inputs import Item
from trainyard.serving.predict import predict
from trainyard.serving.predictions_file import PredictionsFile
from trainyard.serving.predictor import Predictor


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


def test_a_folder_of_images_becomes_a_table_with_every_image_in_order(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["photos"], threads=1)
    folder = models["photos"].parents[1] / "raw"
    bad = tmp_path / "more" / "bad.png"
    bad.parent.mkdir()
    bad.write_bytes(b"")
    (bad.parent / "notes.txt").write_text("no image")
    (bad.parent / ".hidden.png").write_bytes(b"")
    done: list[int] = []
    summary = predict(predictor, [folder, bad.parent], tmp_path / "out.parquet", done.append)
    found = rows(tmp_path / "out.parquet")
    files = sorted((path for path in folder.rglob("*.*")), key=lambda path: (path.parent.name, path.name))
    assert [row["input"] for row in found] == [*map(str, files), str(bad)]
    assert (summary.answered, summary.bad, done[-1]) == (54, 1, 55)
    assert (
        found[-1]["problem"].startswith("an empty file;") and found[-1]["label"] is None and found[-1]["probabilities"] is None
    )
    for row, path in zip(found[:-1:9], files[::9], strict=True):
        [answer] = predictor.predict([path.read_bytes()])
        assert isinstance(answer, Label)
        assert row["problem"] is None and row["label"] == answer.label
        assert np.allclose(row["probabilities"], answer.probabilities, atol=1e-5)
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-5)
    said = json.loads(parquet.read_schema(tmp_path / "out.parquet").metadata[b"trainyard"])
    assert said["recipe"] == "photos" and said["classes"] == ["day", "night"]


def test_masks_are_images_of_their_own_beside_the_table(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["cells"], threads=1)
    folder = models["cells"].parents[1] / "raw" / "images"
    odd = tmp_path / "wide – größer.png"
    Image.fromarray(np.arange(35 * 90, dtype=np.uint8).reshape(35, 90)).save(odd)
    predict(predictor, [folder, odd], tmp_path / "out.parquet")
    found = rows(tmp_path / "out.parquet")
    assert len(found) == 19 and len(list((tmp_path / "out-masks").iterdir())) == 19
    for row in (found[0], found[-1]):
        mask = np.asarray(Image.open(tmp_path / row["mask"]))
        [answer] = predictor.predict([Path(row["input"]).read_bytes()])
        assert isinstance(answer, Mask)
        assert np.array_equal(mask, answer.ids)
        assert row["shares"] == pytest.approx(list(answer.shares.values()), abs=1e-6)
    with pytest.raises(InputError, match="out-masks: is there already"):
        predict(predictor, [folder], tmp_path / "out.parquet")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_of_a_table_are_answered_and_bad_ones_named(models: dict[str, Path], tmp_path: Path, form: str) -> None:
    texts = [("a fine day", "and warm"), ("", "cold, and LATE"), ("", " "), ("dull", "broken")]
    path = tmp_path / f"new.{form}"
    if form == "csv":
        lines = ["title,body", *(f'"{title}","{body}"' for title, body in texts), "one,two,three"]
        path.write_text("\n".join(lines) + "\n")
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps({"title": title, "body": body}) for title, body in texts) + "\n")
    else:
        parquet.write_table(pa.table({"title": [t for t, _ in texts], "body": [b for _, b in texts]}), path)
    predictor = Predictor.load(models["reviews"], threads=1)
    summary = predict(predictor, [path], tmp_path / "out.parquet")
    found = rows(tmp_path / "out.parquet")
    first = 2 if form == "csv" else 1
    assert [row["input"] for row in found[:4]] == [f"{path}:{number}" for number in range(first, first + 4)]
    assert summary.answered == 3 and found[2]["problem"] == "a text with nothing in it to read; expected words"
    if form == "csv":
        assert found[4]["input"] == f"{path}:6" and found[4]["problem"].startswith("3 fields; the header has 2")
    [answer] = predictor.predict(["cold, and LATE"])
    assert isinstance(answer, Label) and found[1]["label"] == answer.label
    assert sum(summary.labels.values()) == 3


def test_all_rows_that_cannot_be_read_are_counted(models: dict[str, Path], tmp_path: Path) -> None:
    rows = ["title,body", *["sun,fine day"] * 3, *["one,two,three"] * 1500]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    predictor = Predictor.load(models["reviews"], threads=1)
    summary = predict(predictor, [tmp_path / "new.csv"], tmp_path / "out.csv")
    assert (summary.answered, summary.bad) == (3, 1500)


def test_each_series_of_a_table_is_forecast_from_its_end(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["load"], threads=1)
    source = models["load"].parents[1] / "raw.csv"
    found = predict(predictor, [source], tmp_path / "out.parquet")
    table = rows(tmp_path / "out.parquet")
    lines = source.read_text().splitlines()
    raw = [dict(zip(lines[0].split(","), map(float, line.split(",")), strict=True)) for line in lines[-24:]]
    [answer] = predictor.predict([raw])
    assert isinstance(answer, Forecast) and found.answered == 1
    assert [row["step"] for row in table] == [1, 2, 3, 4, 5, 6]
    assert np.allclose([[row["sun"], row["load"]] for row in table], answer.values, atol=1e-3)
    assert table[0]["time"] == "2023-11-24 22:13:20" and table[1]["time"] == "2023-11-24 23:13:20"


def test_a_csv_file_has_the_same_answers_without_lists(models: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    for name, raw, prefix in (
        ("photos", "raw", "probability_"),
        ("cells", "raw/images", "share_"),
        ("load", "raw.csv", ""),
    ):
        predictor = Predictor.load(models[name], threads=1)
        paths = [models[name].parents[1] / raw, *([empty] if name == "photos" else [])]
        for suffix in ("parquet", "csv"):
            predict(predictor, paths, tmp_path / suffix / f"{name}.{suffix}")
        with (tmp_path / "csv" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        expected = rows(tmp_path / "parquet" / f"{name}.parquet")
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            for column, value in theirs.items():
                if isinstance(value, list):
                    every = zip(predictor.signature.classes, value, strict=True)
                    assert all(float(ours[f"{prefix}{key}"]) == pytest.approx(number, rel=1e-6) for key, number in every)
                elif isinstance(value, float):
                    assert float(ours[column]) == pytest.approx(value, rel=1e-6)
                elif column in ours:
                    assert ours[column] == ("" if value is None else str(value))
    with (tmp_path / "csv" / "photos.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert last["input"] == str(empty) and last["probability_day"] == "" and last["problem"].startswith("an empty file")


def test_a_table_for_a_spreadsheet_runs_no_text_as_a_formula(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=cmd(1).png").write_bytes(b"")
    predict(Predictor.load(models["photos"], threads=1), [Path("=cmd(1).png")], Path("out.csv"))
    assert Path("out.csv").read_text().splitlines()[1].startswith('"\'=cmd(1).png",')


def test_a_series_with_a_gap_or_no_number_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["load"], threads=1)
    lines = (models["load"].parents[1] / "raw.csv").read_text().splitlines()
    (tmp_path / "gap.csv").write_text("\n".join([*lines[:-5], *lines[-3:]]) + "\n")
    (tmp_path / "word.csv").write_text("\n".join([*lines[:-1], "1700860400,many,0.1,4"]) + "\n")
    (tmp_path / "hole.csv").write_text("\n".join([*lines[:-1], "1700860400,5000,,4"]) + "\n")
    (tmp_path / "short.csv").write_text("\n".join(lines[:9]) + "\n")
    (tmp_path / "other.csv").write_text("hour,load,sun\n1700000000,1,2\n")
    predict(predictor, [tmp_path, models["load"].parents[1] / "raw.csv"], tmp_path / "out.parquet")
    problems = {Path(row["input"].partition(":")[0]).name: row["problem"] for row in rows(tmp_path / "out.parquet")}
    assert "a step of 3:00:00" in problems["gap.csv"]
    assert "column load holds 'many'; expected a finite number" in problems["word.csv"]
    assert "sun: no number; expected a number" in problems["hole.csv"]
    inputs = {Path(row["input"].partition(":")[0]).name: row["input"] for row in rows(tmp_path / "out.parquet")}
    # All of it is longer than what is kept of it.
    assert len(lines) > 2 * 24 + 1
    assert all(inputs[name] == f"{tmp_path / name}:{len(lines)}" for name in ("word.csv", "hole.csv"))
    assert problems["short.csv"] == "8 rows; expected at least 24, the steps that the model was trained to see"
    assert problems["other.csv"].startswith("no such column; the file has hour, load, sun")
    assert problems["raw.csv"] is None


def test_nothing_is_left_of_a_prediction_that_failed(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["photos"], threads=1)
    (tmp_path / "out.parquet").write_bytes(b"the one before")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        predict(predictor, [models["photos"].parents[1] / "raw", tmp_path / "nowhere"], tmp_path / "out.parquet")
    with pytest.raises(InputError, match="nothing there that photos takes; it takes images"):
        predict(predictor, [tmp_path], tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    assert (tmp_path / "out.parquet").read_bytes() == b"the one before"
    with pytest.raises(InputError, match="name a file that ends with"):
        predict(predictor, [tmp_path], tmp_path / "out.xlsx")
    with pytest.raises(MachineError, match="cannot be written"):
        predict(predictor, [tmp_path], Path("/proc/nothing/out.parquet"))


def test_a_target_with_the_name_of_another_column_has_one_of_its_own(models: dict[str, Path], tmp_path: Path) -> None:
    signature = replace(
        Predictor.load(models["load"], threads=1).signature, classes=("step", "input"), columns=("step", "input")
    )
    answer = Forecast(targets=signature.classes, values=np.array([[7, 8], [9, 10]], dtype=np.float32))
    for out in (tmp_path / "out.parquet", tmp_path / "out.csv"):
        with PredictionsFile(out, signature) as file:
            file.add(Item(name="a.csv"), answer)
    found = rows(tmp_path / "out.parquet")
    assert [(row["input"], row["step"], row["forecast_step"], row["forecast_input"]) for row in found] == [
        ("a.csv", 1, 7, 8),
        ("a.csv", 2, 9, 10),
    ]
    assert (tmp_path / "out.csv").read_text().startswith('"input","series","step","time","forecast_step","forecast_input",')


def test_what_was_predicted_into_a_folder_is_not_read_there(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["cells"], threads=1)
    Image.new("L", (20, 20)).save(tmp_path / "scan.png")
    (tmp_path / "my-masks").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "my-masks" / "mine.png")
    for name in ("a.parquet", "b.csv", "c.parquet"):
        assert predict(predictor, [tmp_path], tmp_path / name).answered == 2
    assert predict(predictor, [tmp_path / "a-masks"], tmp_path / "d.csv").answered == 2
    reviews = Predictor.load(models["reviews"], threads=1)
    table = tmp_path / "texts" / "new.csv"
    table.parent.mkdir()
    table.write_text("title,body\na fine day,and warm\n")
    for name in ("a.csv", "b.parquet", "a.csv"):
        done = predict(reviews, [table.parent], table.parent / name)
        assert (done.answered, done.bad) == (1, 0)
    load = models["load"].parents[1] / "raw.csv"
    copied = tmp_path / "series" / "raw.csv"
    copied.parent.mkdir()
    copied.write_text(load.read_text())
    for name in ("a.csv", "b.parquet", "c.csv"):
        done = predict(Predictor.load(models["load"], threads=1), [copied.parent], copied.parent / name)
        assert (done.answered, done.bad) == (1, 0)


def test_what_is_read_is_not_written_over(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["reviews"], threads=1)
    table = tmp_path / "in" / "new.csv"
    table.parent.mkdir()
    table.write_text("title,body\na fine day,and warm\n")
    (tmp_path / "link.csv").symlink_to(table)
    for out in (table, tmp_path / "link.csv"):
        with pytest.raises(InputError, match=f"--out {out}: is one of the files to answer to; name another file"):
            predict(predictor, [table], out)
    (table.parent / "answers.csv").write_text(before := "title,body\ndull,and cold\n")
    with pytest.raises(InputError, match=r"answers\.csv: is there already, in .*in, where it would be read"):
        predict(predictor, [table.parent], table.parent / "answers.csv")
    assert (table.parent / "answers.csv").read_text() == before
    assert table.read_text() == "title,body\na fine day,and warm\n"


def test_two_predictions_do_not_write_one_file(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["reviews"], threads=1)
    table, out = tmp_path / "new.csv", tmp_path / "out.parquet"
    table.write_text("title,body\na fine day,and warm\n")
    taken = pytest.raises(MachineError, match=r"out\.parquet: another `trainyard predict` is writing it")
    with PredictionsFile(out, predictor.signature), taken:
        predict(predictor, [table], out)
    assert rows(out) == []
    assert predict(predictor, [table], out).answered == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.parquet"]


def test_a_pipe_is_neither_read_nor_written(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["reviews"], threads=1)
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert predict(predictor, [pipe], tmp_path / "out.parquet").first == [f"{pipe}: is no regular file; take it out"]
    with pytest.raises(InputError, match=r"pipe\.csv: is no regular file; name a file"):
        predict(predictor, [pipe], pipe)
    assert pipe.is_fifo()


def test_what_is_wrong_with_a_table_names_no_key_of_a_recipe(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(models["reviews"], threads=1)
    (tmp_path / "1.csv").write_bytes("title,body\nschön,warm\n".encode("cp1252"))
    (tmp_path / "2.csv").write_text("a fine day,and warm\n")
    (tmp_path / "3.csv").write_text('title,body\n"a" fine day,and warm\nb,c\n')
    said = predict(predictor, [tmp_path], tmp_path / "out.parquet").first
    assert "is not UTF-8; save the file as UTF-8" in said[0]
    assert "a file without a header? write the names of the columns above its rows" in said[1]
    assert "text follows the closing quote; close each quote" in said[-1]
    assert not any("data." in line for line in said)


def test_a_full_disk_is_said_and_leaves_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from trainyard.serving.predict import predict; from trainyard.serving.predictor import Predictor\n"
        "from trainyard.errors import MachineError; import pyarrow.parquet\n"
        f"predictor = Predictor.load(Path({str(models['photos'])!r}), threads=1)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "try:\n"
        f"    predict(predictor, [Path({str(models['photos'].parents[1] / 'raw')!r})], Path('out.parquet'))\n"
        "except MachineError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "out.parquet: cannot be written (" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []


def test_the_command_says_what_came_out_and_fails_only_where_nothing_did(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["photos"].parents[1])
    (tmp_path / "bad.png").write_bytes(b"no image")
    run = CliRunner().invoke
    done = run(app, ["predict", "photos", "raw/day", str(tmp_path), "--out", str(tmp_path / "out.parquet")])
    assert done.exit_code == 0, done.output
    assert "out.parquet: 27 answers, 1 could not be answered" in done.output
    assert f"{tmp_path / 'bad.png'}: begins with b'no image'" in done.output
    with pytest.raises(InputError, match="none of 1 inputs could be answered"):
        run(app, ["predict", "photos", str(tmp_path), "--out", str(tmp_path / "out.parquet")], catch_exceptions=False)
    with pytest.raises(
        InputError, match=r"models/photos: has no model in 8 bits; add onnx_int8 to the recipe's export\.formats"
    ):
        run(app, ["predict", "photos", str(tmp_path), "--int8"], catch_exceptions=False)
    with pytest.raises(InputError, match="pets: no exported model in models/, and no such path; exported are photos"):
        run(app, ["predict", "pets", str(tmp_path)], catch_exceptions=False)
