from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.files import load_signature
from trainyard.data.raw_form import SeriesForm, TextForm
from trainyard.data.table_form import TableForm, form_from_json
from trainyard.serving.batch_inputs import items
from trainyard.serving.model_file import Signature
from trainyard.serving.predictor import Predictor

SERIES = load_signature(SeriesForm(time="hour"), ("load",), ("load", "sun"), 2, 1)
TEXTS = replace(SERIES, kind="text_classification", classes=("a", "b"), form=TextForm(columns=("title", "body")), columns=())
TRAINED = TableForm(columns=("mood", "title", "body"), encoding="cp1252", delimiter="tab", quotes=False)


def asked(path: Path, content: bytes, trained: TableForm = TRAINED, signature: Signature = TEXTS) -> list[Any]:
    """Return the raw inputs in a file, or what is wrong with them."""
    path.write_bytes(content)
    found = items([path], replace(signature, table=form_from_json(trained.to_json())))
    return [item.raw if item.raw is not None else item.problem for item in found]


@pytest.mark.parametrize(
    "content",
    [
        'good\ta "fine day\tschön\nbad\tcold\tcafé\n'.encode("cp1252"),
        'a "fine day\tschön\ncold\tcafé\n'.encode("cp1252"),
        'body\ttitle\nschön\ta "fine day\ncafé\tcold\n'.encode("cp1252"),
        'title\tbody\na "fine day\tschön\ncold\tcafé\n'.encode(),
        'title,body\na "fine day,schön\ncold,café\n'.encode("utf-8-sig"),
        'title;body\na "fine day;schön\ncold;café\n'.encode("utf-16"),
    ],
    ids=["as trained", "without the classes", "with a header", "in UTF-8", "with other delimiters", "in UTF-16"],
)
def test_a_table_is_read_as_those_of_the_training_unless_it_says_otherwise(tmp_path: Path, content: bytes) -> None:
    rows = [{"title": 'a "fine day', "body": "schön"}, {"title": "cold", "body": "café"}]
    assert asked(tmp_path / "new.csv", content) == rows


def test_what_is_json_or_parquet_needs_no_more_than_its_encoding(tmp_path: Path) -> None:
    line = '{"title": "a", "body": "schön"}\n'
    for content in (line.encode("cp1252"), line.encode()):
        assert asked(tmp_path / "new.jsonl", content) == [{"title": "a", "body": "schön"}]


def test_series_without_a_header_are_told_by_their_number_of_columns(tmp_path: Path) -> None:
    trained = TableForm(columns=("hour", "wind", "load", "sun"), delimiter=";")
    for number, rows in enumerate(("2024-01-0{n};9;{n};3\n", "2024-01-0{n};{n};3\n")):
        content = "".join(rows.format(n=day) for day in (1, 2, 3)).encode()
        [values] = asked(tmp_path / f"{number}.csv", content, trained, SERIES)
        assert values.tolist() == [[1, 3], [2, 3], [3, 3]]


def test_series_in_json_have_decimal_points_and_words_for_nothing_whatever_the_training_had(tmp_path: Path) -> None:
    trained = TableForm(delimiter=";")
    signature = replace(SERIES, form=SeriesForm(time="hour", decimal=",", missing="interpolate"))
    rows = "".join(f'{{"hour": "2024-01-0{n}", "load": {n}.5, "sun": "{n},5"}}\n' for n in (1, 2, 3))
    [values] = asked(tmp_path / "new.jsonl", rows.encode(), trained, signature)
    assert values.tolist() == [[1.5, 1.5], [2.5, 2.5], [3.5, 3.5]]
    [values] = asked(tmp_path / "new.csv", b"hour;load;sun\n2024-01-01;NULL;1,5\n2024-01-02;2;NA\n", trained, signature)
    assert str(values.tolist()) == "[[nan, 1.5], [2.0, nan]]"


def test_a_row_that_names_no_series_among_others_is_said_to_be_that(tmp_path: Path) -> None:
    signature = replace(SERIES, form=SeriesForm(time="hour", series="place"))
    rows = "".join(f"2024-01-0{n},{place},{n},3\n" for place in ("north", " ") for n in (1, 2, 3))
    found = asked(tmp_path / "new.csv", f"hour,place,load,sun\n{rows}".encode(), TableForm(), signature)
    assert found[0].tolist() == [[1, 3], [2, 3], [3, 3]]
    assert found[1:] == ["nothing in column place; name the series of each row, or delete the row"]


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ((0, 1, 2), ""),
        ((0, 1, 3), ""),
        ((0, 24, 48), "steps of 1 day, 0:00:00; the model learned from steps of 1:00:00: bring"),
    ],
)
def test_rows_of_other_steps_than_those_of_the_training_are_refused(tmp_path: Path, hours: tuple[int, ...], said: str) -> None:
    signature = replace(SERIES, form=SeriesForm(time="hour", missing="interpolate", step=3_600_000_000))
    rows = "".join(f"2024-01-0{1 + hour // 24} {hour % 24:02d}:00,{hour},3\n" for hour in hours)
    [found] = asked(tmp_path / "new.csv", f"hour,load,sun\n{rows}".encode(), TableForm(), signature)
    assert found.startswith(said) if said else found[-1].tolist() == [hours[-1], 3]


def test_a_table_of_another_form_is_named_without_a_key_of_a_recipe(tmp_path: Path) -> None:
    [said] = asked(tmp_path / "new.csv", b"one\nof\nfour\n")
    assert said.startswith(
        "each of the 3 rows has 1 fields; the tables of the training have 3: write the names of the columns above"
    )
    [said] = asked(tmp_path / "new.csv", b"a\tb\x81\n")
    assert said == "byte 0x81 at offset 3 is not cp1252; save the file as UTF-8"


def test_a_model_says_how_its_tables_were_written_and_one_of_before_says_nothing(models: dict[str, Path]) -> None:
    assert Predictor.load(models["reviews"], threads=1).signature.table == TableForm(delimiter=",")
    assert Predictor.load(models["photos"], threads=1).signature.table == form_from_json({}) == TableForm()


@pytest.mark.parametrize(
    "values", [{"encoding": "ebcdic"}, {"delimiter": "x"}, {"quotes": 1}, {"columns": [1]}, {"columns": 1}]
)
def test_what_says_nothing_about_a_table_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        form_from_json(values)
