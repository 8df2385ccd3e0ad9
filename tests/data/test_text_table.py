from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard.data.check import check
from trainyard.data.packed import open_split
from trainyard.data.prepare import prepare
from trainyard.data.problems import DataError
from trainyard.data.raw import TO_DIVIDE, RawDataset
from trainyard.data.text_table import TextTableConfig, load
from trainyard.errors import InputError

WORDS = [
    "sun",
    "rain",
    "wind",
    "snow",
    "fog",
    "hail",
    "cloud",
    "storm",
    "river",
    "field",
    "wood",
    "road",
    "path",
    "rock",
    "sea",
    "ice",
]


def config(**changes: Any) -> TextTableConfig:
    values = {"path": "t.csv", "text": "text", "label": "label", "vocabulary_size": 200}
    return TextTableConfig(source="text_table", **{**values, **changes})


def rows(count: int = 40, classes: tuple[str, ...] = ("good", "bad")) -> list[str]:
    """Return lines of different texts, classes in turn."""
    return [
        f"{WORDS[number % 16]} {WORDS[number // 16 % 16]} {number},{classes[number % len(classes)]}" for number in range(count)
    ]


def write(root: Path, lines: Iterable[str], header: str = "text,label", name: str = "t.csv") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as error:
        load(config(**changes), root)
    return str(error.value)


def warned(raw: RawDataset) -> dict[str, str]:
    return {problem.rule: str(problem) for problem in raw.warnings}


def test_texts_and_labels_are_read_in_the_order_of_the_rows(tmp_path: Path) -> None:
    raw = load(config(), write(tmp_path, rows()))
    assert raw.classes == ("bad", "good")
    assert raw.arrays["texts"][:2] == ["sun sun 0", "rain sun 1"]
    assert raw.arrays["labels"][:4].tolist() == [1, 0, 1, 0]
    assert raw.names[:2] == ("t.csv:2", "t.csv:3")
    assert (raw.split, raw.groups, raw.warnings) == (None, None, ())
    assert raw.about == "40 texts of 2 classes from t.csv (fields between commas, UTF-8)"


def test_labels_that_are_whole_numbers_are_sorted_by_their_size(tmp_path: Path) -> None:
    assert load(config(), write(tmp_path, rows(40, ("10", "9", "-1")))).classes == ("-1", "9", "10")


def test_several_columns_are_joined_and_only_all_of_them_empty_is_refused(tmp_path: Path) -> None:
    lines = [line.replace(",", f",body {number},", 1) for number, line in enumerate(rows())]
    lines[3], lines[5] = ",only a body,bad", ' , ,"bad"'
    root = write(tmp_path, lines, "title,body,label")
    assert "1 problem\n  t.csv:7: no text in title and body; write one" in refused(root, text=("title", "body"))
    raw = load(config(text=("title", "body"), on_bad_sample="skip"), root)
    assert raw.arrays["texts"][0] == "sun sun 0 body 0"
    assert raw.arrays["texts"][3] == "only a body"


@pytest.mark.parametrize("text", ["", "   ", '"\t\n"', "\u200b\u200d", "\u00a0", '"\u2028"'])
def test_a_text_without_a_sign_that_shows_is_refused_with_its_row(tmp_path: Path, text: str) -> None:
    lines = rows()
    lines[4] = f"{text},good"
    assert "t.csv:6: no text in text; write one, or delete the row" in refused(write(tmp_path, lines))


@pytest.mark.parametrize("text", ["😀", "👩\u200d🚀", "שלום עולם", "مرحبا", "ok\u202e", "?", "天気"])
def test_texts_in_any_script_and_of_signs_alone_are_texts(tmp_path: Path, text: str) -> None:
    lines = rows()
    lines[4] = f"{text},good"
    assert load(config(), write(tmp_path, lines)).arrays["texts"][4] == text


def test_all_bad_rows_are_told_together_and_skipped_where_asked(tmp_path: Path) -> None:
    lines = [f"{line},train,g{number}" for number, line in enumerate(rows())]
    lines[1], lines[2], lines[3] = ",bad,train,g1", "fog,,train,g2", "hail,bad,later,g3"
    lines[4], lines[5] = "storm,good,train, ", "one,two"
    root = write(tmp_path, lines, "text,label,part,group")
    text = refused(root, split="part", group="group")
    for said in (
        "5 problems",
        "t.csv:3: no text in text",
        "t.csv:4: nothing in column label; name the class",
        "t.csv:5: column part holds 'later'; write train, val or test",
        "t.csv:6: nothing in column group; name the group",
        "t.csv:7: 2 fields; the header has 4",
    ):
        assert said in text
    raw = load(config(split="part", group="group", on_bad_sample="skip"), root)
    assert (len(raw), len(raw.skipped)) == (35, 5)


def test_of_many_bad_rows_all_are_counted_and_none_hides_another_kind(tmp_path: Path) -> None:
    bad = [f"fog {number}," for number in range(2500)]
    root = write(tmp_path, [*rows(), *bad, ",good"])
    text = refused(root)
    assert text.startswith("t.csv: 2,501 problems\n") and text.endswith("\n  and 2,450 more")
    assert "t.csv:2542: no text in text" in text
    card = prepare("t", config(on_bad_sample="skip"), tmp_path / "packed", root=root)
    assert sum(problem["count"] for problem in card.skipped) == 2501
    assert "<h2>Why samples were left out (2,501)</h2>" in (tmp_path / "packed" / "card.html").read_text(encoding="utf-8")


def test_rows_with_nul_bytes_are_left_out_where_asked(tmp_path: Path) -> None:
    raw = load(config(on_bad_sample="skip"), write(tmp_path, [*rows(), "a\0b,good"]))
    assert (len(raw), len(raw.skipped)) == (40, 1)


def test_words_for_nothing_are_texts_and_classes(tmp_path: Path) -> None:
    lines = rows(40, ("None", "NA"))
    lines[0] = "null,None"
    raw = load(config(), write(tmp_path, lines))
    assert (raw.classes, raw.arrays["texts"][0]) == (("NA", "None"), "null")
    assert warned(raw)["no-class"].startswith(
        "t.csv:20 rows: class 'NA' reads like a label that is missing; if it is none, empty"
    )


@pytest.mark.parametrize("same", [("1", "1.0"), ("True", "1"), ("false", "0.0")])
def test_one_label_written_in_two_ways_is_told_of(tmp_path: Path, same: tuple[str, str]) -> None:
    raw = load(config(), write(tmp_path, rows(60, (*same, "7"))))
    assert f"classes {', '.join(map(repr, sorted(same)))} are ways to write one value" in warned(raw)["like-classes"]
    assert not load(config(), write(tmp_path, rows(60, ("True", "False", "7")))).warnings


@pytest.mark.parametrize(
    ("tokenizer", "said"), [("words", "needs tokenizer: bpe"), ("bpe", "raise data.vocabulary_size, of which")]
)
def test_texts_of_which_the_vocabulary_knows_little_are_told_of(tmp_path: Path, tokenizer: str, said: str) -> None:
    lines = ["".join(chr(0x4E00 + (7 * number + 31 * place) % 3000) for place in range(20)) for number in range(60)]
    root = write(tmp_path, [f"{line},{'ab'[number % 2]}" for number, line in enumerate(lines)])
    changed = config(tokenizer=tokenizer, vocabulary_size=200)
    [warning] = check(changed, root).warnings
    assert (warning.rule, warning.where) == ("unknown-tokens", "data.tokenizer") and said in warning.expected
    assert prepare("t", changed, tmp_path / "packed", root=root).warnings == (warning.to_json(),)


def test_a_class_that_equal_texts_leave_too_small_is_said_to_be_that(tmp_path: Path) -> None:
    root = write(tmp_path, [*rows(), *["the same,rare"] * 5])
    with pytest.raises(InputError, match="class 'rare': has 1 samples, without 4 of all classes that equal others; it needs"):
        check(config(), root)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["same"] * 20, "t.csv:label: one class (same); rows of two classes or more are needed"),
        ([f"id{number}" for number in range(20)], "t.csv:label: 20 different values in 20 rows; these look like ids or texts"),
        (["a"] * 10 + ["b"] * 9 + ["rare"], "t.csv:rare: 1 row; one for each of train and val and test is needed"),
        (["a"] * 10 + ["b"] * 8 + ["few"] * 2, "t.csv:few: 2 rows; one for each of train and val and test is needed"),
    ],
)
def test_labels_that_teach_nothing_are_refused(tmp_path: Path, labels: list[str], said: str) -> None:
    lines = [f"{row.split(',')[0]},{label}" for row, label in zip(rows(20), labels, strict=True)]
    assert said in refused(write(tmp_path, lines))


def test_classes_that_differ_in_case_or_spaces_are_a_warning(tmp_path: Path) -> None:
    raw = load(config(), write(tmp_path, rows(40, ("Good", "good ", "bad"))))
    assert raw.classes == ("Good", "bad", "good ")
    assert "classes 'Good', 'good ' differ in case or outer spaces only" in warned(raw)["like-classes"]


def test_equal_texts_are_told_with_their_rows(tmp_path: Path) -> None:
    lines = rows()
    lines += ["Sun  SUN 0,good", "sun sun 0,bad"]
    found = check(config(), write(tmp_path, lines))
    assert sum(found.samples.values()) == 40
    assert [str(warning) for warning in found.warnings] == [
        "t.csv:43: 1 pair: t.csv:43 (bad) = t.csv:2 (good); one label for one input; the first was kept, the others left out: "
        "correct the labels"
    ]


def test_a_text_in_two_splits_stays_where_it_is_tested(tmp_path: Path) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, ["fog fog x,good", "sun sun 0,good", "rain y,bad"], name="set/test.csv")
    found = check(config(path="set"), tmp_path)
    assert found.samples["test"] == 3
    assert "train.csv:2 (the rest) = test.csv:3 (test)" in str(found.warnings[0])
    assert found.warnings[0].rule == "equal-in-two-splits"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{word} {label}!", "t.csv:text: the text holds the word of label in 100% of the rows"),
        ("{label}", "t.csv:text: the text equals label in 100% of the rows"),
    ],
)
def test_a_text_that_says_its_class_is_a_warning_with_the_share(tmp_path: Path, text: str, said: str) -> None:
    lines = []
    for number in range(40):
        label = ("good", "bad")[number % 2]
        lines.append(f"{text.format(word=WORDS[number % 16], label=label.upper())},{label}")
    assert said in warned(load(config(), write(tmp_path, lines)))["label-in-text"]


def test_texts_about_classes_are_no_leak(tmp_path: Path) -> None:
    lines = [f"good or bad is {number},{('good', 'bad')[number % 2]}" for number in range(40)]
    assert warned(load(config(), write(tmp_path, lines))) == {}


def test_a_label_within_a_longer_word_is_no_leak(tmp_path: Path) -> None:
    lines = [f"{('goodness', 'badly')[number % 2]} {number},{('good', 'bad')[number % 2]}" for number in range(40)]
    assert warned(load(config(), write(tmp_path, lines))) == {}


def test_which_column_says_the_class_is_named(tmp_path: Path) -> None:
    lines = [f"{row.split(',')[0]},{row.split(',')[1]},{row.split(',')[1]}" for row in rows()]
    raw = load(config(text=("text", "topic")), write(tmp_path, lines, "text,topic,label"))
    assert warned(raw)["label-in-text"].startswith("t.csv:topic: the text equals label in 100%")


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    lines = [f"{line},author {number // 4}" for number, line in enumerate(rows(240))]
    prepare("t", config(group="who"), tmp_path / "out", root=write(tmp_path, lines, "text,label,who"))
    authors: Counter[int] = Counter()
    for split in ("train", "val", "test"):
        part = open_split(tmp_path / "out", split)
        authors.update({(int(part.sample_name(row).split(":")[1]) - 2) // 4 for row in range(len(part))})
    assert set(authors.values()) == {1}
    assert len(authors) == 60


def test_a_group_in_two_splits_of_the_source_is_refused(tmp_path: Path) -> None:
    lines = [f"{line},{('train', 'train', 'test')[number % 3]},g{number}" for number, line in enumerate(rows())]
    lines[7] = lines[7].replace("g7", "g2")
    root = write(tmp_path, lines, "text,label,part,who")
    assert "t.csv:who: g2 (train, test); what is tested on must be new" in refused(root, split="part", group="who")


def test_a_column_says_which_row_goes_where(tmp_path: Path) -> None:
    names = ("train", "Validation", "TEST", "train")
    lines = [f"{line},{names[number % 4]}" for number, line in enumerate(rows(40, ("a", "b", "c")))]
    raw = load(config(split="part"), write(tmp_path, lines, "text,label,part"))
    assert raw.split is not None
    assert raw.split[:4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_folder_keeps_the_splits_it_comes_with(tmp_path: Path, name: str) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, ["a b,good", "c d,bad"], name=f"set/{name}.csv")
    write(tmp_path, ["e f\tgood", "g h\tbad"], "text\tlabel", name="set/test.tsv")
    raw = load(config(path="set"), tmp_path)
    assert raw.split is not None
    assert np.bincount(raw.split).tolist() == [40, 2, 2]


def test_what_a_folder_lacks_is_divided_from_training(tmp_path: Path) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, ["e f,good", "g h,bad"], name="set/test.csv")
    raw = load(config(path="set"), tmp_path)
    assert raw.split is not None
    assert Counter(raw.split.tolist()) == {TO_DIVIDE: 40, 2: 2}
    assert check(config(path="set"), tmp_path).samples == {"train": 36, "val": 4, "test": 2}


def test_parts_of_a_split_are_read_as_one(tmp_path: Path) -> None:
    write(tmp_path, rows(40), name="set/train-00000-of-00002.csv")
    write(tmp_path, ["a b,good"], name="set/train-00001-of-00002.csv")
    assert len(load(config(path="set"), tmp_path)) == 41


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train.csv", "val.csv", "dev.csv"), "dev.csv, val.csv for split val; keep one file for each split"),
        (("test.csv", "val.csv"), "set: test.csv, val.csv; name the training table train.csv"),
        (("words.csv",), "set: no tables named after a split; name the training table train.csv"),
    ],
)
def test_folders_that_leave_the_splits_open_are_refused(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    for number, name in enumerate(names):
        write(tmp_path, [f"{number} {line}" for line in rows()], name=f"set/{name}")
    assert said in refused(tmp_path, path="set")


def test_tables_of_a_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, rows(), name="set/unlabelled.csv")
    write(tmp_path, ["about"], name="set/README.txt")
    assert "set: unlabelled.csv; left out" in warned(load(config(path="set"), tmp_path))["stray-files"]


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, ["a b,good", "c d,new"], name="set/test.csv")
    assert "set:new: rows in val or test only; add some to train" in refused(tmp_path, path="set")


def test_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    write(tmp_path, [*rows(), ",good"], name="set/train.csv")
    write(tmp_path, ["x,good"], "words,label", name="set/test.csv")
    text = refused(tmp_path, path="set")
    assert "set/train.csv:42: no text" in text
    assert "set/test.csv:text: no such column; the file has words, label" in text


def test_links_out_of_the_raw_data_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, rows(), name="set/train.csv")
    write(tmp_path, rows(), name="secret.csv")
    (root / "set" / "test.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DataError, match="leads out of the folder") as error:
        load(config(path="set"), root)
    assert error.value.exit_code == 5


def test_lines_of_json_become_texts(tmp_path: Path) -> None:
    samples = [{"text": line.split(",")[0], "label": number % 3} for number, line in enumerate(rows())]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, samples)))
    raw = load(config(path="t.jsonl"), tmp_path)
    assert (raw.classes, raw.names[0], len(raw)) == (("0", "1", "2"), "t.jsonl:1", 40)
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, [*samples, {"text": "\ud800", "label": 1}])))
    assert "t.jsonl:41: key 'text' holds half of a character (\\ud800)" in refused(tmp_path, path="t.jsonl")


def test_a_file_without_a_header_and_with_more_columns_is_read_by_names(tmp_path: Path) -> None:
    lines = [f'"{number % 4 + 1}","title {number}","{WORDS[number % 16]}, {number}"' for number in range(60)]
    write(tmp_path, lines[1:], lines[0])
    raw = load(config(text=("title", "body"), label="class", columns=("class", "title", "body")), tmp_path)
    assert raw.classes == ("1", "2", "3", "4")
    assert raw.arrays["texts"][0] == "title 0 sun, 0"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "label"}, "column 'label' is named twice"),
        ({"text": ()}, "text: is empty"),
        ({"columns": ("text", "lable")}, "column 'label' is not among columns text, lable; did you mean 'lable'"),
        ({"columns": ("text", "label", "text")}, "holds a name twice"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave no samples to train on"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**changes)


def test_a_long_text_is_cut_and_counted(tmp_path: Path) -> None:
    lines = [*rows(), f"{'sun rain ' * 30_000},good"]
    card = prepare("t", config(max_tokens=32), tmp_path / "out", root=write(tmp_path, lines))
    assert [problem["found"] for problem in card.warnings] == ["1 of 41 texts (2.4%) have more than 32 tokens"]


def test_the_vocabulary_is_that_of_the_training_split(tmp_path: Path) -> None:
    write(tmp_path, rows(), name="set/train.csv")
    write(tmp_path, ["sun zebra,good", "rain zebra,bad"], name="set/val.csv")
    write(tmp_path, ["sun zebra,good", "rain zebu,bad"], name="set/test.csv")
    prepare("t", config(path="set", tokenizer="words"), tmp_path / "out", root=tmp_path)
    vocabulary = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["vocab"]
    assert "sun" in vocabulary
    assert "zebra" not in vocabulary


def test_the_page_shows_lengths_classes_texts_and_what_was_odd(tmp_path: Path) -> None:
    lines = [*rows(40, ("=good", "<b>bad")), "Sun SUN 0,<b>bad"]
    prepare("t", config(), tmp_path / "out", root=write(tmp_path, lines))
    page = (tmp_path / "out" / "card.html").read_text()
    for said in (
        "Lengths in tokens",
        "training texts reach the limit of 64",
        "<h3>=good</h3>",
        "<h3>&lt;b&gt;bad</h3>",
        "1 samples were left out because they equal another one",
        "t.csv:42 (&lt;b&gt;bad) = t.csv:2 (=good)",
    ):
        assert said in page


def test_lengths_that_come_as_often_are_bars_of_one_height(tmp_path: Path) -> None:
    lines = [f"{' '.join(WORDS[: number // 16 + 1])} {number:03d},{('good', 'bad')[number % 2]}" for number in range(160)]
    prepare("t", config(tokenizer="words", vocabulary_size=500), tmp_path / "out", root=write(tmp_path, lines))
    page = (tmp_path / "out" / "card.html").read_text()
    bars = page.split('class="histogram">')[1].split("</div>")[0]
    assert bars.count("<span") == 10
    assert 'title="0"' not in bars


@pytest.mark.parametrize(("name", "counts"), [("trec", (5452, 500)), ("sst2", (6920, 872, 1821))])
def test_published_texts_are_read_whole_and_nothing_is_wrong(name: str, counts: tuple[int, ...], root: Path) -> None:
    data = Path(os.environ.get("TRAINYARD_DATA", root.parent / "shared" / "data"))
    if not (data / name).is_dir():
        pytest.skip(f"TRAINYARD_DATA does not say where {name} is")
    raw = load(config(path=name), data)
    assert len(raw) == sum(counts)
    assert raw.warnings == ()
