from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from trainyard.data import table_csv, table_json, table_parquet
from trainyard.data.problems import Problem
from trainyard.data.table_form import IN_THE_RECIPE, KEPT, TableForm
from trainyard.data.tables import check_columns, open_table, read_blocks

Rows = list[tuple[int, list[str]]]
"""Line and cells of each row that was read."""


def read(
    root: Path, name: str, wanted: tuple[str, ...] = ("text", "label"), texts: tuple[str, ...] = (), **form: Any
) -> tuple[Rows, list[Problem], str]:
    """Return the good rows, all problems, and how the table is said to be written."""
    problems: list[Problem] = []
    table = open_table(root, name, TableForm(advice=IN_THE_RECIPE, **form), problems, wanted)
    if table is None or not check_columns(table, wanted):
        return [], problems, ""
    rows: Rows = []
    for block in read_blocks(table, wanted, texts):
        rows += zip(block.lines, map(list, zip(*block.cells.values(), strict=True)), strict=True)
    return rows, problems, table.about


def written(root: Path, content: str | bytes, name: str = "t.csv") -> Path:
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def said(problems: list[Problem]) -> str:
    return "\n".join(f"[{problem.rule}] {problem}" for problem in problems)


GOOD = [(2, ["one", "a"]), (3, ["two", "b"])]
PLAIN = "text,label\none,a\ntwo,b\n"


@pytest.mark.parametrize(
    ("content", "about"),
    [
        (PLAIN, "fields between commas, UTF-8"),
        (PLAIN.rstrip("\n"), "fields between commas, UTF-8"),
        ("\ufeff" + PLAIN, "fields between commas, UTF-8"),
        (PLAIN.encode("utf-16"), "fields between commas, UTF-16"),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "fields between commas, UTF-16"),
        (PLAIN.replace(",", ";"), "fields between semicolons, UTF-8"),
        (PLAIN.replace(",", "\t"), "fields between tabs, UTF-8"),
        (PLAIN.replace(",", "|"), "fields between bars, UTF-8"),
        (PLAIN.replace("\n", "\r\n"), "fields between commas, UTF-8"),
        (PLAIN.replace("\n", "\r"), "fields between commas, UTF-8"),
        ("label,text\na,one\nb,two\n", "fields between commas, UTF-8"),
        ("id,text,label\n1,one,a\n2,two,b\n", "fields between commas, UTF-8"),
        ('"text","label"\n"one","a"\n"two","b"\n', "fields between commas, UTF-8"),
        (" text , label \none,a\ntwo,b\n", "fields between commas, UTF-8"),
    ],
)
def test_ways_to_write_one_table_are_told_apart_and_read_alike(tmp_path: Path, content: str | bytes, about: str) -> None:
    assert read(written(tmp_path, content), "t.csv") == (GOOD, [], about)


def test_encodings_without_a_mark_are_read_where_they_are_named(tmp_path: Path) -> None:
    table = "text,label\nbrûlée,süß\nприз,né\n"
    for encoding, sample in (("cp1252", table.replace("приз", "x")), ("utf-16-le", table), ("gb18030", table)):
        rows, problems, _ = read(written(tmp_path, sample.encode(encoding)), "t.csv", encoding=encoding)
        assert [cells for _, cells in rows] == [line.split(",") for line in sample.splitlines()[1:]]
        assert problems == []


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (PLAIN.encode() + "né,a\n".encode("latin-1"), "auto", "t.csv:4: byte 0xe9 at offset 24 ('é' in cp1252) is not UTF-8"),
        (
            b"\xef\xbb\xbf" + PLAIN.encode() + b"n\xe9,a\n",
            "auto",
            "t.csv:4: byte 0xe9 at offset 27 ('é' in cp1252) is not UTF-8",
        ),
        (b"text,label\r\nx\xed\xa0\x80,a\r\n", "auto", "t.csv:2: byte 0xed at offset 13"),
        (PLAIN.encode("utf-16")[:-1], "auto", "t.csv:3: byte 0x0a at offset 46 is not UTF-16"),
        (PLAIN.encode("utf-16-le"), "auto", "t.csv:1: 10 NUL bytes; text has none: write the file again; UTF-16 without"),
        (PLAIN.encode("utf-16"), "cp1252", "begins with the byte order mark of UTF-16; remove data.encoding: cp1252"),
        (PLAIN.encode("utf-16-le"), "utf-16", "has no byte order mark; name the order of its bytes"),
        (PLAIN.encode("utf-32"), "auto", "is UTF-32; save the file as UTF-8"),
        (b"PK\x03\x04rest", "auto", "is a ZIP or Excel file; save the table as CSV"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_place(
    tmp_path: Path, content: bytes, encoding: str, expected: str
) -> None:
    _, problems, _ = read(written(tmp_path, content), "t.csv", encoding=encoding)
    assert expected in said(problems)
    assert len(problems) == 1


def test_a_bad_byte_far_into_a_file_has_its_own_offset_and_line(tmp_path: Path) -> None:
    start = b"text,label\r\n" + f"é{'x' * 115},a\r\n".encode() * 20_000
    _, problems, _ = read(written(tmp_path, start + b"\xff,a\r\n"), "t.csv")
    assert f"t.csv:20002: byte 0xff at offset {len(start):,}" in said(problems)


@pytest.mark.parametrize(("first", "end"), [("sep=;", "\n"), ("SEP=;", "\r\n"), ('"sep=;"', "\n")])
def test_the_line_by_which_excel_is_told_the_delimiter_is_none_of_the_rows(tmp_path: Path, first: str, end: str) -> None:
    content = end.join([first, "text;label", "a, b, c;x", '"d', 'e";y', 'f";g";x', "g;x;1", ""])
    rows, problems, about = read(written(tmp_path, content), "t.csv")
    assert rows[:2] == [(3, ["a, b, c", "x"]), (4, [f"d{end}e", "y"])]
    assert [problem.where for problem in problems] == ["t.csv:6", "t.csv:7"]
    assert about.startswith("fields between semicolons")
    [(line, cells)], _, _ = read(written(tmp_path, f"{first}{end}a;x{end}"), "t.csv", columns=("text", "label"), delimiter=",")
    assert (line, cells) == (2, ["a", "x"])


def test_utf_8_read_as_something_else_is_a_warning(tmp_path: Path) -> None:
    _, problems, _ = read(written(tmp_path, "text,label\nbrûlée,a\n"), "t.csv", encoding="latin-1")
    assert "all of it is UTF-8; it is read as latin-1, as asked" in said(problems)
    assert problems[0].severity == "warning"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\none\ntwo,b\na,b,c\n", ["t.csv:2: 1 fields; the header has 2", "t.csv:4: 3 fields; the header has 2"]),
        ("text,label\none,a,7\ntwo,b,8\n", ["t.csv: each of the 2 rows has 3 fields; the header has 2: a name is missing"]),
        ("id,text,label\none,a\ntwo,b\n", ["t.csv: each of the 2 rows has 2 fields; the header has 3: the header names too"]),
        ("text,Label\none,a\n", ["t.csv:label: no such column; the file has text, Label; did you mean 'Label'?"]),
        ("text,label,label\none,a,b\n", ["t.csv:label: 2 columns of this name; rename one"]),
        ("words,class\none,a\n", ["t.csv:text: no such column", "a file without a header? name its columns in data.columns"]),
        ("", ["t.csv: is empty: it holds no rows"]),
        ("\n \n", ["t.csv: is empty: it holds no rows"]),
        ("text,label\n", ["t.csv: holds no rows under its header"]),
        ("text,label\n\n\n", ["t.csv: holds no rows under its header"]),
        ('text,label\n"one,a\ntwo,b\n', ["t.csv:2: a quote that opens here is never closed; close each quote"]),
        ('text,label\n"one" more,a\n', ["t.csv:2: text follows the closing quote; close each quote"]),
        ('text,label\none,a\n"two\nlines" x,b\n', ["t.csv:3: text follows the closing quote on line 4"]),
        ("text,label\none,a\ntw\0o,b\n", ["t.csv:3: 1 NUL bytes; text has none"]),
    ],
)
def test_what_is_wrong_with_rows_and_columns_is_named(tmp_path: Path, content: str, expected: list[str]) -> None:
    _, problems, _ = read(written(tmp_path, content), "t.csv")
    for text in expected:
        assert text in said(problems)


def test_all_bad_rows_of_a_pass_are_told_and_the_good_ones_read(tmp_path: Path) -> None:
    faults = ["short", "", "tw\0o,b", 'bad "quotes",b', '"x" y,a', "three,a,1", '"two', 'lines",b']
    rows, problems, _ = read(written(tmp_path, "\n".join(["text,label", "one,a", *faults, "last,b"])), "t.csv")
    assert [line for line, _ in rows] == [2, 6, 9, 11]
    assert rows[2][1] == ["two\nlines", "b"]
    assert sorted((problem.where, problem.rule) for problem in problems) == [
        ("t.csv:3", "ragged-row"),
        ("t.csv:5", "nul-byte"),
        ("t.csv:7", "unreadable-row"),
        ("t.csv:8", "ragged-row"),
    ]
    assert all(problem.sample for problem in problems)


def test_problems_of_one_kind_are_listed_up_to_a_number_and_then_counted(tmp_path: Path) -> None:
    _, problems, _ = read(written(tmp_path, PLAIN + "short\n" * (KEPT + 234)), "t.csv")
    assert len(problems) == KEPT + 1
    assert "t.csv: 234 rows more with the same problem (ragged-row)" in said(problems[-1:])


@pytest.mark.parametrize("content", ["text,label,\none,a,\ntwo,b,\n", "text,label\none,a,\ntwo,b,\n"])
def test_a_delimiter_at_the_end_of_each_row_is_passed_over_and_said(tmp_path: Path, content: str) -> None:
    rows, problems, _ = read(written(tmp_path, content), "t.csv")
    assert rows == GOOD
    assert [(problem.rule, problem.severity) for problem in problems] == [("trailing-delimiter", "warning")]


def test_mixed_line_ends_are_read_and_said(tmp_path: Path) -> None:
    rows, problems, _ = read(written(tmp_path, "text,label\r\none,a\ntwo,b\r\n"), "t.csv")
    assert rows == GOOD
    assert "lines end with LF and CRLF" in said(problems).replace("CRLF and LF", "LF and CRLF")
    assert problems[0].severity == "warning"


def test_words_for_nothing_stay_texts(tmp_path: Path) -> None:
    cells = ["NA", "None", "null", "nan", "TRUE", "1e400", " padded "]
    rows, problems, _ = read(written(tmp_path, "text,label\n" + "".join(f"{cell},{cell}\n" for cell in cells)), "t.csv")
    assert [row[1] for row in rows] == [[cell, cell] for cell in cells]
    assert problems == []


def test_a_file_without_a_header_is_read_by_the_names_given(tmp_path: Path) -> None:
    written(tmp_path, '"3","One, and more","text one"\n"4","Two","text two"\n')
    rows, problems, _ = read(tmp_path, "t.csv", ("body", "class"), columns=("class", "title", "body"))
    assert (rows, problems) == ([(1, ["text one", "3"]), (2, ["text two", "4"])], [])


def test_names_given_to_a_file_with_a_header_are_refused(tmp_path: Path) -> None:
    _, problems, _ = read(written(tmp_path, PLAIN), "t.csv", columns=("text", "label"))
    assert "t.csv: its first row repeats data.columns; remove data.columns" in said(problems)


def test_quotes_are_plain_characters_where_the_recipe_says_so(tmp_path: Path) -> None:
    written(tmp_path, 'text\tlabel\n"Never, he said\ta\n5" of rain\tb\n', "t.tsv")
    rows, problems, _ = read(tmp_path, "t.tsv", quotes=False)
    assert (rows, problems) == ([(2, ['"Never, he said', "a"]), (3, ['5" of rain', "b"])], [])
    assert "t.tsv:2: text follows the closing quote on line 3" in said(read(tmp_path, "t.tsv")[1])


def test_texts_full_of_commas_do_not_hide_the_delimiter(tmp_path: Path) -> None:
    written(tmp_path, "text;label\none, two, three;a\nfour, five, six;b\n")
    assert read(tmp_path, "t.csv")[2] == "fields between semicolons, UTF-8"
    assert "no such column" in said(read(tmp_path, "t.csv", delimiter=",")[1])


def test_commas_in_names_and_numbers_do_not_hide_semicolons(tmp_path: Path) -> None:
    root = written(tmp_path, "day;load, MW;heat, C\n2024-01-01;1,5;2,5\n2024-01-02;1,7;2,25\n")
    table = open_table(root, "t.csv", TableForm(), [])
    assert table is not None and table.columns == ("day", "load, MW", "heat, C")


def test_the_delimiter_is_the_one_that_gives_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    written(tmp_path, "text;label;note, if any\none;a;so, so\ntwo;b;so, so;\n")
    rows, problems, _ = read(tmp_path, "t.csv")
    assert rows == [(2, ["one", "a"])]
    assert said(problems).startswith("[ragged-row] t.csv:3: 4 fields; the header has 3")


def test_a_text_of_ten_megabytes_is_one_cell(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    rows, problems, _ = read(written(tmp_path, f'text,label\n"{long}",a\n'), "t.csv")
    assert len(rows[0][1][0]) == len(long)
    assert problems == []


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"text": "x", "label": ', "t.jsonl:2: no JSON: Expecting value at character"),
        ('{"text": "x"}', "t.jsonl:2: no key 'label'; the row has text"),
        ('{"text": "x", "lable": "a"}', "t.jsonl:2: no key 'label'; the row has text, lable; did you mean 'lable'?"),
        ('{"text": ["x"], "label": "a"}', "t.jsonl:2: key 'text' holds a list; one text or number is expected"),
        ('{"text": "x", "label": {"a": 1}}', "t.jsonl:2: key 'label' holds an object"),
        ('{"text": 7, "label": "a"}', "t.jsonl:2: key 'text' holds 7, which is no text; put it in quotes"),
        ('{"text": true, "label": "a"}', "t.jsonl:2: key 'text' holds true, which is no text"),
        ('{"text": "x\\ud800", "label": "a"}', "t.jsonl:2: key 'text' holds half of a character (\\ud800) at 1"),
        ('{"text": "x", "text": "y", "label": "a"}', "t.jsonl:2: no JSON: key 'text' stands there twice"),
        ('["x", "a"]', """t.jsonl:2: '["x", "a"]' is no object"""),
        ("[" * 100_000, "t.jsonl:2: brackets within brackets without end"),
        ('{"text": "a\tb", "label": "a"}', "t.jsonl:2: no JSON: Invalid control character at"),
    ],
)
def test_a_bad_line_of_json_is_named_and_the_others_are_read(tmp_path: Path, row: str, expected: str) -> None:
    good = '{"text": "x", "label": "a"}'
    rows, problems, _ = read(written(tmp_path, lines(good, row, good), "t.jsonl"), "t.jsonl", texts=("text",))
    assert [line for line, _ in rows] == [1, 3]
    assert expected in said(problems)
    assert len(problems) == 1


def test_numbers_and_words_of_json_stand_as_they_were_written(tmp_path: Path) -> None:
    values = ["1", "1.50", "1e400", "12345678901234567890123", "true", "null", '"null"', "NaN", '"\\ud83d\\ude00"']
    written(tmp_path, lines(*(f'{{"text": "x", "label": {value}}}' for value in values)), "t.jsonl")
    found = [cells[1] for _, cells in read(tmp_path, "t.jsonl")[0]]
    assert found == ["1", "1.50", "1e400", "12345678901234567890123", "true", "", "null", "NaN", "😀"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "x"}]', "is one JSON list; write one object a line"),
        ("", "is empty: it holds no rows"),
        ("text,label\n", "no line with a JSON object (no JSON: Expecting value at character 1)"),
    ],
)
def test_files_that_are_no_lines_of_json_are_told_so(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in said(read(written(tmp_path, content, "t.jsonl"), "t.jsonl")[1])


def store(root: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), root / "t.parquet")
    return root


def test_plain_columns_of_parquet_are_read_as_texts(tmp_path: Path) -> None:
    label = pa.array([3, None, 4], type=pa.int16())
    rows, problems, about = read(store(tmp_path, text=["one", "two", None], label=label), "t.parquet", texts=("text",))
    assert rows == [(1, ["one", "3"]), (2, ["two", ""]), (3, ["", "4"])]
    assert (problems, about) == ([], "3 rows of Parquet")
    classes = pa.array(["a", "b", "a"]).dictionary_encode()
    rows, _, _ = read(store(tmp_path, text=["x", "y", "z"], label=classes), "t.parquet", texts=("text",))
    assert [cells[1] for _, cells in rows] == ["a", "b", "a"]


def test_columns_of_parquet_that_are_no_plain_values_are_refused(tmp_path: Path) -> None:
    columns = {"text": pa.array([1, 2]), "label": pa.array([["a"], ["b"]])}
    _, problems, _ = read(store(tmp_path, **columns), "t.parquet", texts=("text",))
    assert "column 'text' is int64; expected texts" in said(problems)
    assert "column 'label' is list" in said(problems)


def test_own_types_of_parquet_are_never_built(tmp_path: Path) -> None:
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": b"cos\nsystem\n."}
    schema = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string(), metadata=metadata)])
    parquet.write_table(pa.table({"text": ["x"], "label": ["a"]}, schema=schema), tmp_path / "t.parquet")
    rows, problems, _ = read(tmp_path, "t.parquet")
    assert rows == []
    assert "is of the own type arrow.py_extension_type; store plain values" in said(problems)
    assert problems[0].severity == "refused"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_parquet_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    store(tmp_path, text=["word"] * 1000, label=["a"] * 1000)
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[: int(share * len(content))])
    assert "t.parquet: cannot be read as Parquet" in said(read(tmp_path, "t.parquet")[1])


@pytest.mark.parametrize("position", [0.2, 0.5])
def test_parquet_with_other_bytes_is_read_or_refused_but_never_crashes(tmp_path: Path, position: float) -> None:
    store(tmp_path, text=[f"word {number}" for number in range(1000)], label=["a"] * 1000)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    start = int(position * len(content))
    content[start : start + 40] = b"\xff" * 40
    (tmp_path / "t.parquet").write_bytes(content)
    rows, problems, _ = read(tmp_path, "t.parquet")
    assert len(rows) == 1000 or "t.parquet: cannot be read" in said(problems)


@pytest.mark.parametrize(
    ("name", "expected", "severity"),
    [
        ("t.xlsx", "'.xlsx' is not read; save the sheet as CSV", "error"),
        ("t.json", "write it as .jsonl", "error"),
        ("t.pkl", "a pickle can run code and is never opened", "refused"),
        ("t.feather", "known are .csv, .tsv", "error"),
        ("table", "a name without an ending is not read", "error"),
        ("../outside.csv", "leads out of the folder of raw data", "refused"),
        ("link.csv", "leads out of the folder of raw data", "refused"),
        ("missing.csv", "no such file", "error"),
    ],
)
def test_files_that_are_no_tables_are_not_opened(tmp_path: Path, name: str, expected: str, severity: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.csv").write_text(PLAIN)
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    if name not in ("missing.csv", "link.csv"):
        (root / name).write_text(PLAIN)
    _, problems, _ = read(root, name)
    assert expected.replace("'", "") in said(problems)
    assert problems[0].severity == severity


def test_a_table_that_dvc_links_to_its_cache_elsewhere_is_read(tmp_path: Path) -> None:
    root, md5 = tmp_path / "root", hashlib.md5(PLAIN.encode()).hexdigest()
    place = tmp_path / "shared" / "files" / "md5" / md5[:2] / md5[2:]
    for path in (place, root / "t.csv"):
        path.parent.mkdir(parents=True)
    place.write_text(PLAIN)
    (root / "t.csv").symlink_to(place)
    assert read(root, "t.csv")[:2] == (GOOD, [])


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_table_is_never_whole_in_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block_rows, text = 500, "some words of a text " * 100
    for module in (table_csv, table_json, table_parquet):
        monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    count = 8 * block_rows
    if name == "t.csv":
        written(tmp_path, "text,label\n" + f"{text},a\n" * count)
    elif name == "t.jsonl":
        written(tmp_path, (json.dumps({"text": text, "label": "a"}) + "\n") * count, name)
    else:
        store(tmp_path, text=[text] * count, label=["a"] * count)
    problems: list[Problem] = []
    tracemalloc.start()
    table = open_table(tmp_path, name, TableForm(), problems)
    assert table is not None
    rows = sum(len(block.lines) for block in read_blocks(table, ("text", "label")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (rows, problems) == (count, [])
    assert peak < 4 * block_rows * len(text)
