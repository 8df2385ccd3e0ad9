from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from trainyard.data.check import check
from trainyard.data.problems import DataError
from trainyard.data.text_table import TextTableConfig
from trainyard.errors import InputError
from trainyard.intake.columns import Named
from trainyard.intake.suggest import suggest
from trainyard.recipe import read_recipe
from trainyard.recipe_text import add_recipe


def write(root: Path, header: str, row: str, count: int = 200, name: str = "t.csv") -> Path:
    """Write a table whose rows are `row` with their number, a class of three, an author, and a split in it."""
    splits = ("train", "train", "val", "test")
    lines = [
        row.format(n=n, label="abc"[n % 3], author=f"w{n // 4}", part=splits[n % 4], date=f"2024-01-{n % 28 + 1:02d}")
        for n in range(count)
    ]
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root / name


def suggested(path: Path, named: Named | None = None) -> tuple[str, TextTableConfig]:
    """Return the suggestion, and the data block that it becomes in a params.yaml; `check` finds no error in it."""
    root = path.parent
    text = suggest("mine", "lstm", path, path.name, named)
    (root / "params.yaml").unlink(missing_ok=True)
    add_recipe(root / "params.yaml", "mine", text)
    data = read_recipe(root / "params.yaml", "mine").data
    assert isinstance(data, TextTableConfig)
    check(data, root)
    return text, data


def test_text_and_label_are_found_and_the_reason_is_written(tmp_path: Path) -> None:
    text, data = suggested(write(tmp_path, "id,text,label", "{n},some words of number {n},{label}"))
    assert (data.text, data.label, data.group, data.split) == ("text", "label", None, None)
    assert "# 200 texts, 3 classes (a 67, b 67, c 66); fields between commas, UTF-8." in text
    assert "label: label # 3 values, each in many rows" in text
    assert (data.vocabulary_size, data.max_tokens) == (1000, 8)


def test_names_of_columns_do_not_matter_where_only_one_fits(tmp_path: Path) -> None:
    _, data = suggested(write(tmp_path, "no,what was: said,#kind", "{n},some words of number {n},{label}"))
    assert (data.text, data.label) == ("what was: said", "#kind")


def test_authors_and_splits_are_taken_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label,author", "some words of number {n},{label},{author}")
    assert suggested(path)[1].group == "author"
    path = write(tmp_path, "text,label,part", "some words of number {n},{label},{part}")
    text, data = suggested(path)
    assert (data.split, data.group) == ("part", None)
    assert "split: part # says test, train, val" in text


def test_a_folder_keeps_its_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path, "text,label", f"some words of {name} {{n}},{{label}}", name=f"set/{name}.csv")
    text, data = suggested(tmp_path / "set")
    assert data.path == "set"
    assert "200 texts in the training table of 2" in text


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("title,summary,label", "words of a title {n},words of it {n},{label}", "columns title, summary all look like texts"),
        ("text,tone,place", "some words of number {n},{label},{label}{label}", "columns tone, place may all be labels"),
        ("text,id", "some words of number {n},{n}", "no column looks like labels; it has text, id"),
        ("id,label", "{n},{label}", "no column looks like times or texts; it has id, label"),
        ("date,text,label,load", "{date},some words of {n},{label},{n}.5", "holds texts \\(text\\) and measurements over time"),
    ],
)
def test_columns_that_leave_it_open_are_refused_with_the_option(tmp_path: Path, header: str, row: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        suggest("mine", "lstm", write(tmp_path, header, row), "t.csv")
    assert "--" in str(error.value)


def test_the_options_settle_what_was_open(tmp_path: Path) -> None:
    path = write(tmp_path, "title,summary,tone,place", "words of a title {n},words of it {n},{label},{label}{label}")
    _, data = suggested(path, Named(text=("title", "summary"), label="place"))
    assert (data.text, data.label) == (("title", "summary"), "place")
    with pytest.raises(InputError, match=r"has no column 'plase'; it has title, .* did you mean 'place'"):
        suggest("mine", "lstm", path, "t.csv", Named(label="plase"))


def test_options_of_tables_are_refused_for_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--label: is for tables"):
        suggest("mine", "cnn", tmp_path, "raw", Named(label="x"))


def test_published_texts_need_no_option(root: Path) -> None:
    data = Path(os.environ.get("TRAINYARD_DATA", root.parent / "shared" / "data"))
    if not (data / "trec").is_dir():
        pytest.skip("TRAINYARD_DATA does not say where trec is")
    text = suggest("trec", "lstm", data / "trec", "trec")
    assert "vocabulary_size: 8000" in text
    assert "max_tokens: 24" in text


def test_columns_of_lists_and_objects_are_passed_over(tmp_path: Path) -> None:
    rows = [
        {
            "text": f"a text with number {n}",
            "label": "abc"[n % 3],
            "tags": ["x"],
            "meta": {"id": n},
            **({"note": "x"} if n % 3 else {}),
        }
        for n in range(200)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    text, data = suggested(tmp_path / "t.jsonl")
    assert (data.text, data.label) == ("text", "label")
    assert "# 200 texts" in text
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "tags")}
    parquet.write_table(pa.table({**columns, "nothing": pa.nulls(200), "raw": [b"x"] * 200}), tmp_path / "t.parquet")
    assert suggested(tmp_path / "t.parquet")[1].label == "label"


def test_a_named_column_of_lists_is_refused_with_its_rows(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a b c", "label": ["x"]}\n' * 20)
    with pytest.raises(InputError, match=r"t\.jsonl:1: key 'label' holds a list"):
        suggest("mine", "lstm", tmp_path / "t.jsonl", "t.jsonl", Named(label="label"))


def test_a_table_of_texts_without_a_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "some text of the first row,a", "some text of row {n},{label}")
    with pytest.raises(InputError, match="has no header: its first row, with 'a', is like those below"):
        suggest("mine", "lstm", path, "t.csv")


def test_columns_of_one_name_are_told_where_none_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label,label", "some text of row {n},{label},{label}")
    with pytest.raises(InputError, match="label left out, as several columns have this name"):
        suggest("mine", "lstm", path, "t.csv")


def test_a_table_that_is_not_utf_8_may_have_a_recipe_by_hand(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("text,label\nbr\u00fbl\u00e9e,a\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"or write the recipe by hand, with its encoding, such as data\.encoding: cp1252"):
        suggest("mine", "lstm", tmp_path / "t.csv", "t.csv")


def test_labels_that_a_program_has_written_as_numbers_with_a_fraction_of_nothing_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label,score", "row {n} says {author} and {label},{n}.0,0.{n}")
    lines = [
        line.replace(f",{number}.0,", f",{number % 3}.0,") for number, line in enumerate(path.read_text().splitlines()[1:])
    ]
    path.write_text("\n".join(["text,label,score", *lines]) + "\n")
    text, data = suggested(path)
    assert data.label == "label"
    assert "3 classes (0.0 67, 1.0 67, 2.0 66)" in text


def test_what_few_rows_have_is_no_text_and_names_with_spaces_are_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, "v1,v2,Unnamed: 2", "{label},some words of number {n},")
    path.write_text(path.read_text().replace("number 3,", "number 3,and what came after a comma"))
    assert suggested(path)[1].text == "v2"
    path = write(tmp_path, "v1,first half,other half", "{label},some words of number {n},more words of {n}")
    with pytest.raises(InputError, match="such as --text 'first half' --text 'other half'"):
        suggest("mine", "lstm", path, "t.csv")
