from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from trainyard.data.card_page import write_page
from trainyard.data.check import check
from trainyard.data.packed import read_card, verify
from trainyard.data.prepare import prepare
from trainyard.data.problems import DataError
from trainyard.data.text import VectorsConfig, train_tokenizer
from trainyard.data.text_table import TextTableConfig
from trainyard.data.word_vectors import LONGEST_LINE, WordVectors, read_vectors
from trainyard.errors import InputError, IntegrityError

TEXTS = ["the cat sat", "the dog ran", "a Cat and a Dog"]


def written(folder: Path, content: str | bytes) -> VectorsConfig:
    """Write a file of vectors, and return what a recipe says of it."""
    content = content.encode() if isinstance(content, str) else content
    (folder / "words.vec").write_bytes(content)
    return VectorsConfig(path="words.vec", sha256=hashlib.sha256(content).hexdigest())


def read(folder: Path, content: str | bytes, size: int = 100, *, lowercase: bool = True) -> tuple[WordVectors, Tokenizer]:
    tokenizer = train_tokenizer(TEXTS, 100, "words", lowercase=lowercase)
    return read_vectors(written(folder, content), folder, tokenizer, size), tokenizer


def vector(found: WordVectors, tokenizer: Tokenizer, word: str) -> list[float]:
    """Return the numbers of a word of the vocabulary, or of one behind it."""
    place = tokenizer.token_to_id(word)
    return found.table[tokenizer.get_vocab_size() + found.new.index(word) if place is None else place].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_words_get_the_numbers_behind_them_with_and_without_a_first_line_of_counts(
    tmp_path: Path, header: str, end: str
) -> None:
    rows = "".join(f"{row}{end}" for row in ("cat 1 2.5", "dog -3e-1 4", "the 5 6"))
    found, tokenizer = read(tmp_path, header + rows)
    assert found.table.dtype == np.float32 and found.table.shape == (tokenizer.get_vocab_size(), 2)
    assert vector(found, tokenizer, "cat") == [1, 2.5]
    assert vector(found, tokenizer, "dog") == [np.float32(-0.3), 4]
    assert vector(found, tokenizer, "the") == [5, 6]
    assert vector(found, tokenizer, "sat") == vector(found, tokenizer, "[PAD]") == vector(found, tokenizer, "[UNK]") == [0, 0]


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    found, tokenizer = read(tmp_path, "\n\r\n2 2\n\ncat 1 2\n   \ndog 3 4\n\n\n")
    assert (vector(found, tokenizer, "cat"), vector(found, tokenizer, "dog")) == ([1, 2], [3, 4])
    assert found.new == () and [warning.rule for warning in found.warnings] == ["few-vectors"]


def test_room_for_more_words_than_any_memory_holds_costs_nothing(tmp_path: Path) -> None:
    rows = "".join(f"w{number} {number} 1\n" for number in range(3000))
    found, tokenizer = read(tmp_path, f"{rows}cat 5 6\n", size=10**12)
    assert found.table.shape == (tokenizer.get_vocab_size() + 3000, 2)
    assert vector(found, tokenizer, "cat") == [5, 6]
    assert found.table[tokenizer.get_vocab_size() :].tolist() == [[number, 1] for number in range(3000)]


def test_words_of_the_file_alone_follow_in_its_order_while_there_is_room(tmp_path: Path) -> None:
    rows = "zebra 1 1\ncat 2 2\nlion 3 3\ntiger 4 4\n"
    found, tokenizer = read(tmp_path, rows)
    assert found.new == ("zebra", "lion", "tiger")
    assert found.table[tokenizer.get_vocab_size() :].tolist() == [[1, 1], [3, 3], [4, 4]]
    found, tokenizer = read(tmp_path, rows, size=tokenizer.get_vocab_size() + 2)
    assert found.new == ("zebra", "lion") and vector(found, tokenizer, "cat") == [2, 2]
    # The training split's own words are never left out for them.
    found, tokenizer = read(tmp_path, rows, size=3)
    assert found.new == () and vector(found, tokenizer, "cat") == [2, 2]
    assert found.about == "word vectors of 1 of their 7 words and of 0 more from words.vec"


def test_words_that_a_text_can_never_have_are_left_out(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "New-York 1\n. . . 2\nat name@domain.com 3\nU.S. 4\n</s> 5\n!! 6\nnaïve 7\ncat 8\n")
    assert found.new == ("!!", "naïve")
    found, _ = read(tmp_path, "[PAD] 9\n[UNK] 8\ncat 7\n", lowercase=False)
    assert found.table[:2].tolist() == [[0], [0]]


def test_a_word_as_it_stands_is_better_than_one_in_capitals(tmp_path: Path) -> None:
    found, tokenizer = read(tmp_path, "Cat 1\ncat 2\nDog 3\nDOG 4\nMÜLLER 5\n")
    assert vector(found, tokenizer, "cat") == [2]
    assert vector(found, tokenizer, "dog") == [3]
    assert found.new == ("müller",)


def test_a_word_in_capitals_takes_the_vector_of_small_letters_where_it_has_none(tmp_path: Path) -> None:
    found, tokenizer = read(tmp_path, "cat 1\ndog 2\nDog 3\nLion 4\n", lowercase=False)
    assert vector(found, tokenizer, "cat") == vector(found, tokenizer, "Cat") == [1]
    assert (vector(found, tokenizer, "dog"), vector(found, tokenizer, "Dog")) == ([2], [3])
    assert found.new == ("Lion",)


def test_the_first_of_equal_words_counts(tmp_path: Path) -> None:
    found, tokenizer = read(tmp_path, "cat 1\ncat 2\n")
    assert vector(found, tokenizer, "cat") == [1]


BAD = {
    "cut off": (
        "cat 1 2\ndog 3",
        DataError,
        "words.vec:2: has 1 numbers behind its word, the others have 2; get the whole file",
    ),
    "one number more": (
        "cat 1 2\ndog 3 4 5.5\n",
        DataError,
        "words.vec:2: has 3 numbers behind its word, the others have 2; get the whole file",
    ),
    "more numbers than the first line says": (
        "2 2\ncat 1 2 3\ndog 4 5 6\n",
        DataError,
        "words.vec:2: has 3 numbers behind its word, the first line says 2",
    ),
    "a first row that is cut": (
        "cat 1 2\ndog 3 -4e-2 .5\n",
        DataError,
        "words.vec:2: has 3 numbers behind its word, the others have 2",
    ),
    "a first line of endless numbers": (
        f"{'9' * 5000} {'9' * 5000}\ncat 1 2\n",
        DataError,
        "words.vec:2: has 2 numbers behind its word, the others have 1",
    ),
    "UTF-16": (
        "2 2\r\ncat 1 2\r\ndog 3 4\r\n".encode("utf-16"),
        InputError,
        "data.vectors.path: words.vec: is UTF-16; save it as UTF-8",
    ),
    "fewer than it says": (
        "3 2\ncat 1 2\ndog 3 4\n",
        DataError,
        "words.vec: has 2 words, its first line says 3; get the whole",
    ),
    "no number": ("cat 1 x\n", DataError, "words.vec:1: holds what is no number; write numbers"),
    "not a number": ("cat 1 nan\n", DataError, "words.vec:1: holds a number that is not finite; leave the word out"),
    "infinite": ("cat 1 2\ndog 1e39 0\n", DataError, "words.vec:2: holds a number that is not finite"),
    "empty": ("", DataError, "words.vec: has no words; a row is a word and its numbers"),
    "only a header": ("2 3\n", DataError, "words.vec: has 0 words, its first line says 2"),
    "a list of words": ("cat\ndog\n", DataError, "words.vec:1: has no numbers: 'cat'; a row is a word and its numbers"),
    "binary": (
        b"2 3\ncat \x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\n",
        DataError,
        "words.vec:2: has 1 numbers behind its word",
    ),
    "one line": (b"cat " + b"1 " * LONGEST_LINE, DataError, "words.vec:1: is longer than 1,048,576 bytes; a row is a word"),
    "of another language": (
        "chat 1 2\nchien 3 4\n",
        DataError,
        "words.vec: has none of the 7 words of the training split; use",
    ),
    "packed": (gzip.compress(b"cat 1 2\n"), InputError, "data.vectors.path: words.vec: is a gzipped file; name a text file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none_is_refused_with_the_line_and_what_to_do(tmp_path: Path, name: str) -> None:
    content, kind, message = BAD[name]
    with pytest.raises(kind) as error:
        read(tmp_path, content)
    assert message in str(error.value)


def test_all_bad_rows_are_listed_up_to_a_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 problems\n.*words.vec:2: .*\n.*words.vec:3: "):
        read(tmp_path, "cat 1 2\ndog 3\nthe x y\n")
    with pytest.raises(DataError, match="20 problems"):
        read(tmp_path, "cat 1 2\n" + "dog 3\n" * 1000)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.vec", "none.vec: no such file; put the file there, or correct the path"),
        (f"{'long' * 100}.vec", "long.vec: no such file; put the file there, or correct the path"),
        (".", "is no file; name the text file with the vectors"),
    ],
)
def test_a_path_that_is_no_file_is_named(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(InputError, match=f"data.vectors.path: .*{message}"):
        read_vectors(VectorsConfig(path=place), tmp_path, train_tokenizer(TEXTS, 100, "words"), 100)


def test_a_file_that_dvc_keeps_is_said_to_be_brought_by_it(tmp_path: Path) -> None:
    (tmp_path / "words.vec.dvc").write_text("outs:\n- path: words.vec\n")
    with pytest.raises(
        InputError, match=r"words\.vec: no such file; DVC keeps the file: dvc checkout words\.vec\.dvc, or dvc pull"
    ):
        read_vectors(VectorsConfig(path="words.vec"), tmp_path, train_tokenizer(TEXTS, 100, "words"), 100)


def test_the_hash_must_be_stated_and_be_that_of_the_file(tmp_path: Path) -> None:
    config, tokenizer = written(tmp_path, "cat 1\n"), train_tokenizer(TEXTS, 100, "words")
    with pytest.raises(InputError, match=f"data.vectors.sha256: is missing.*write sha256: {config.sha256}"):
        read_vectors(VectorsConfig(path=config.path), tmp_path, tokenizer, 100)
    with pytest.raises(IntegrityError, match=f"has sha256 {config.sha256}, data.vectors.sha256 says 00; get the right file"):
        read_vectors(VectorsConfig(path=config.path, sha256="00"), tmp_path, tokenizer, 100)


def test_what_is_odd_about_a_file_is_a_warning(tmp_path: Path) -> None:
    found, tokenizer = read(tmp_path, b"\xef\xbb\xbfcat 1\n\xff\xfe 2\n")
    assert vector(found, tokenizer, "cat") == [1]
    said = {problem.rule: str(problem) for problem in found.warnings}
    assert set(said) == {"few-vectors", "not-utf-8"} and {problem.severity for problem in found.warnings} == {"warning"}
    assert "has 1 of the 7 words of the training split (14%)" in said["few-vectors"]
    assert "1 words are not UTF-8" in said["not-utf-8"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_small_letters_are_advised_to_whom_they_are_new(tmp_path: Path, lowercase: bool) -> None:
    said = str(read(tmp_path, "cat 1\n", lowercase=lowercase)[0].warnings[0])
    assert "other vectors may know more" in said and ("lowercase: true" in said) is not lowercase


def test_a_file_larger_than_what_is_kept_of_it_is_read_in_little_memory(tmp_path: Path) -> None:
    rows = b"".join(b"word%d " % number + b"0.5 " * 100 + b"\n" for number in range(40_000))
    config, tokenizer = written(tmp_path, rows + b"cat " + b"1 " * 100 + b"\n"), train_tokenizer(TEXTS, 100, "words")
    assert (tmp_path / "words.vec").stat().st_size > 16e6
    del rows
    tracemalloc.start()
    found = read_vectors(config, tmp_path, tokenizer, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vector(found, tokenizer, "cat") == [1.0] * 100
    assert len(found.new) == 50 - tokenizer.get_vocab_size()
    assert peak < 2e6


def table(folder: Path, vectors: VectorsConfig | None, **changes: Any) -> TextTableConfig:
    """Write forty texts of animals and of tools, and return the source that reads them."""
    animals, tools = ["cat", "dog", "cow", "hen"], ["saw", "axe", "hoe", "pen"]
    words = [[*animals, f"a{number}"] for number in range(20)] + [[*tools, f"t{number}"] for number in range(20)]
    lines = [f"{' '.join(some)},{'animal' if some[0] == 'cat' else 'tool'}" for some in words]
    (folder / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return TextTableConfig(
        source="text_table", path="t.csv", text="text", label="label", tokenizer="words", vectors=vectors, **changes
    )


def test_packed_data_hold_the_vectors_and_know_their_words(tmp_path: Path) -> None:
    config = table(tmp_path, written(tmp_path, "cat 1 2\nzebra 3 4\nsaw 5 6\n"), vocabulary_size=60)
    card = prepare("animals", config, tmp_path / "p", root=tmp_path)
    assert card == read_card(tmp_path / "p")
    tokenizer = Tokenizer.from_file(str(tmp_path / "p" / "tokenizer.json"))
    packed = np.load(tmp_path / "p" / "vectors.npy")
    assert packed.shape == (card.input["vocabulary_size"], card.input["vector_size"]) == (tokenizer.get_vocab_size(), 2)
    encoded = tokenizer.encode("saw the zebra cat").ids
    assert packed[encoded].tolist() == [[5, 6], [0, 0], [3, 4], [1, 2]]
    assert card.about.endswith(", with word vectors of 2 of their 36 words and of 1 more from words.vec")
    assert [warning["rule"] for warning in card.warnings] == ["few-vectors"]
    verify(tmp_path / "p", card)
    write_page(tmp_path / "p", card)
    assert "vector size 2" in (tmp_path / "p" / "card.html").read_text()
    np.save(tmp_path / "p" / "vectors.npy", packed + 1)
    with pytest.raises(IntegrityError, match=r"vectors\.npy: is not what the card was written for"):
        verify(tmp_path / "p", card)


def test_the_vectors_are_part_of_the_identity_of_the_data(tmp_path: Path) -> None:
    config = table(tmp_path, written(tmp_path, "cat 1 2\n"))
    first = prepare("animals", config, tmp_path / "first", root=tmp_path).sha256
    assert prepare("animals", config, tmp_path / "again", root=tmp_path).sha256 == first
    for name in ("vectors.npy", "tokenizer.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    other = table(tmp_path, written(tmp_path, "cat 1 3\n"))
    assert prepare("animals", other, tmp_path / "other", root=tmp_path).sha256 != first
    assert prepare("animals", table(tmp_path, None), tmp_path / "none", root=tmp_path).sha256 != first


def test_a_vocabulary_without_room_for_the_file_s_words_is_said_to_be_full(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 100, "words")
    vectors = written(tmp_path, "cat 1 2\nNew-York 3 4\n")
    assert "no-room" not in [problem.rule for problem in read_vectors(vectors, tmp_path, tokenizer, 3).warnings]
    vectors = written(tmp_path, "cat 1 2\nzebra 3 4\n")
    said = next(problem for problem in read_vectors(vectors, tmp_path, tokenizer, 3).warnings if problem.rule == "no-room")
    assert "those of the training split fill data.vocabulary_size: 3; raise it" in str(said)
    assert "no-room" not in [problem.rule for problem in read_vectors(vectors, tmp_path, tokenizer, 100).warnings]


def test_a_vocabulary_of_no_words_is_refused(tmp_path: Path) -> None:
    config = table(tmp_path, None, min_frequency=1000)
    with pytest.raises(InputError, match=r"data\.min_frequency: 1000: no word of the training split occurs so often; lower it"):
        prepare("animals", config, tmp_path / "p", root=tmp_path)
    for size in (1, 2):
        with pytest.raises(ValueError, match=f"vocabulary_size: {size} has no room beside padding and unknown; use 3 or more"):
            table(tmp_path, None, vocabulary_size=size)


def test_check_says_what_prepare_would(tmp_path: Path) -> None:
    config = table(tmp_path, written(tmp_path, "cat 1 2\ndog 3\n"))
    with pytest.raises(DataError) as caught:
        check(config, tmp_path)
    assert [(problem.rule, problem.where) for problem in caught.value.problems] == [("cut-row", "words.vec:2")]
    with pytest.raises(DataError):
        prepare("animals", config, tmp_path / "p", root=tmp_path)
    assert not (tmp_path / "p").exists()
    found = check(table(tmp_path, written(tmp_path, "cat 1 2\n")), tmp_path)
    assert [warning.rule for warning in found.warnings] == ["few-vectors"] and found.input["vector_size"] == 2


def test_vectors_of_words_need_words_for_tokens() -> None:
    with pytest.raises(
        ValueError, match="vectors: are of words, but tokenizer: bpe makes pieces of them; use tokenizer: words"
    ):
        TextTableConfig(source="text_table", path="t", text="t", label="l", vectors=VectorsConfig(path="v"))
