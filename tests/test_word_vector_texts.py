"""`benchmarks/word_vectors.py`: what it reads of the dictionaries, in which words of a kind stand near its name."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmark_module import benchmark

NOUNS = """\
  1 This software and database is being provided to you, the LICENSEE, by
00001740 03 n 01 entity 0 001 ~ 00002137 n 0000 | that which is perceived
00002137 03 n 01 animal 0 002 @ 00001740 n 0000 ~ 00003000 n 0000 | a living organism
00003000 05 n 02 domestic_cat 0 tomcat 0 002 @ 00002137 n 0000 + 00004000 v 0101 | feline mammal; "the cat's tail"
"""
ADJECTIVES = '00005000 00 s 01 galore(ip) 0 001 & 00006000 a 0000 | in great numbers; "daffodils galore"\n'


@pytest.fixture(scope="module")
def texts(root: Path) -> ModuleType:
    """The script, as a module."""
    return benchmark(root, "word_vectors")


def test_a_word_of_wordnet_stands_beside_what_it_is_a_kind_of(texts: ModuleType, tmp_path: Path) -> None:
    for part, content in (("noun", NOUNS), ("verb", ""), ("adj", ADJECTIVES), ("adv", "")):
        (tmp_path / f"data.{part}").write_text(content, encoding="latin-1")
    found = [" ".join(words) for words in texts.wordnet_sentences(tmp_path)]
    assert found == [
        "entity is a that which is perceived",
        "animal is a entity a living organism",
        "domestic cat is a animal entity feline mammal the cat s tail",
        "tomcat is a animal entity feline mammal the cat s tail",
        "galore is a in great numbers daffodils galore",
    ]


def test_a_dictionary_is_read_sentence_by_sentence_without_its_notes(texts: ModuleType, tmp_path: Path) -> None:
    entry = "Cat \\Cat\\ (k[a^]t), n. [AS. cat.]\n   1. An animal of {various} kinds;\n as, the\n Egyptian cat. [PJC]\n"
    with gzip.open(tmp_path / "d.dict.dz", "wt", encoding="utf-8") as file:
        file.write(entry)
    assert [" ".join(words) for words in texts.dictionary_sentences(tmp_path / "d.dict.dz")] == [
        "cat cat k t n",
        "an animal of various kinds",
        "as the egyptian cat",
    ]


def test_a_dictionary_that_is_not_installed_is_named_with_its_package(texts: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"data\.noun: no such file; install Debian's wordnet-base"):
        list(texts.wordnet_sentences(tmp_path))
    with pytest.raises(SystemExit, match="install Debian's dict-gcide"):
        list(texts.dictionary_sentences(tmp_path / "none.dict.dz"))
