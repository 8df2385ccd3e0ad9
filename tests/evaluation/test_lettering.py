import time

import pytest

from trainyard.evaluation.lettering import families, fill, room, shorten, wrap


def test_letters_are_looked_for_in_the_fonts_that_are_there_and_first_in_the_usual_one() -> None:
    assert families(["Noto Sans Thai", "Comic Sans", "Noto Sans CJK SC"]) == [
        "DejaVu Sans",
        "Noto Sans CJK SC",
        "Noto Sans Thai",
    ]
    assert families([]) == ["DejaVu Sans"]


def test_a_chinese_letter_takes_the_room_of_two_small_ones_and_an_accent_none() -> None:
    assert room("ab") == 2
    assert room("猫") > 2
    assert room("e\u0301") == 1


@pytest.mark.parametrize("name", ["Corn_(maize)___Cercospora_leaf_spot", "猫" * 30, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
def test_a_long_name_keeps_its_beginning_and_its_end(name: str) -> None:
    short = shorten(name, 14)
    assert room(short) <= 14
    head, tail = short.split("…")
    assert head
    assert tail
    assert name.startswith(head)
    assert name.endswith(tail)


def test_a_name_that_fits_stays() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abc…fg"


def test_text_is_broken_at_spaces_and_where_there_are_none_anywhere() -> None:
    assert wrap("one two  three\nfour", 9) == ["one two", "three", "four"]
    assert wrap("aaaaaaaaaaaa b", 5) == ["aaaaa", "aaaaa", "aa b"]
    assert wrap("", 5) == []
    assert [len(line) for line in wrap("图" * 20, 22)] == [10, 10]
    assert wrap("aa bbbbbbbb", 4) == ["aa", "bbbb", "bbbb"]
    assert fill("one two", 4) == "one\ntwo"


def test_a_text_of_a_million_letters_without_a_space_is_broken_in_one_pass() -> None:
    began = time.monotonic()
    assert len(wrap("x" * 1_000_000, 50)) == 20_000
    assert time.monotonic() - began < 5
