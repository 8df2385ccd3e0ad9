"""Texts as token ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from trainyard.data.text import PADDING, UNKNOWN, TokenizerKind, encode, train_tokenizer
from trainyard.data.text_table import TextTableConfig
from trainyard.data.vocabulary import vocabulary_for

TEXTS = ["Return the mean of an array.", "Return the sum of an array.", "Draw the line."]


@pytest.fixture(scope="module", params=["words", "bpe"])
def kind(request: pytest.FixtureRequest) -> TokenizerKind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tokenizer(kind: TokenizerKind) -> Tokenizer:
    """Fitted on three sentences."""
    return train_tokenizer(TEXTS, 100, kind)


def test_padding_is_token_0_and_unknown_is_token_1(tokenizer: Tokenizer) -> None:
    assert (tokenizer.token_to_id(PADDING), tokenizer.token_to_id(UNKNOWN)) == (0, 1)


def test_padding_never_stands_in_a_text(tokenizer: Tokenizer) -> None:
    tokens, _ = encode(tokenizer, [*TEXTS, "漢字", ""], max_tokens=64)
    assert tokens.min() >= 1


def test_a_character_never_seen_is_unknown(tokenizer: Tokenizer) -> None:
    tokens, _ = encode(tokenizer, ["漢"], max_tokens=64)
    assert set(tokens.tolist()) == {1}


def test_case_makes_no_difference(tokenizer: Tokenizer) -> None:
    assert np.array_equal(encode(tokenizer, ["DRAW the Line."], 64)[0], encode(tokenizer, ["draw the line."], 64)[0])


def test_offsets_say_where_each_text_starts(tokenizer: Tokenizer) -> None:
    tokens, offsets = encode(tokenizer, TEXTS, max_tokens=64)
    assert (tokens.dtype, offsets.dtype) == (np.int32, np.int64)
    assert offsets[0] == 0 and offsets[-1] == len(tokens)
    for index, text in enumerate(TEXTS):
        alone, _ = encode(tokenizer, [text], max_tokens=64)
        assert np.array_equal(tokens[offsets[index] : offsets[index + 1]], alone)


def test_a_text_without_tokens_becomes_one_unknown_token(tokenizer: Tokenizer) -> None:
    tokens, offsets = encode(tokenizer, ["", "   "], max_tokens=64)
    assert tokens.tolist() == [1, 1]
    assert offsets.tolist() == [0, 1, 2]


def test_no_texts_give_no_tokens(tokenizer: Tokenizer) -> None:
    tokens, offsets = encode(tokenizer, [], max_tokens=64)
    assert (tokens.tolist(), tokens.dtype, offsets.tolist()) == ([], np.int32, [0])


def test_a_long_text_is_cut_off(tokenizer: Tokenizer) -> None:
    whole, _ = encode(tokenizer, TEXTS[:1], max_tokens=64)
    cut, offsets = encode(tokenizer, TEXTS[:1], max_tokens=3)
    assert np.array_equal(cut, whole[:3])
    assert offsets.tolist() == [0, 3]


def test_the_vocabulary_is_no_larger_than_asked_for(kind: TokenizerKind) -> None:
    assert train_tokenizer(TEXTS, 6, kind).get_vocab_size() <= 6


def test_the_same_texts_give_the_same_tokenizer(tokenizer: Tokenizer, kind: TokenizerKind) -> None:
    assert train_tokenizer(TEXTS, 100, kind).to_str() == tokenizer.to_str()


def test_a_word_never_seen_is_unknown_as_a_word_and_known_in_its_pieces() -> None:
    words, pieces = (train_tokenizer(TEXTS, 100, kind) for kind in ("words", "bpe"))
    assert encode(words, ["arrays"], 64)[0].tolist() == [1]
    assert pieces.encode("arrays").tokens == ["array", "s"]


def test_a_saved_tokenizer_encodes_alike(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_str(tokenizer.to_str())
    assert np.array_equal(encode(again, TEXTS, 64)[0], encode(tokenizer, TEXTS, 64)[0])


def test_case_makes_a_difference_where_it_is_asked_for(kind: TokenizerKind) -> None:
    tokenizer = train_tokenizer([*TEXTS, "draw"], 100, kind, lowercase=False)
    assert not np.array_equal(encode(tokenizer, ["Draw"], 64)[0], encode(tokenizer, ["draw"], 64)[0])


def test_rare_words_are_unknown_and_rare_pairs_stay_apart() -> None:
    words = train_tokenizer(TEXTS, 100, "words", min_frequency=2)
    assert encode(words, ["the sum array"], 64)[0].tolist()[1] == 1
    assert 1 not in encode(words, ["the array"], 64)[0]
    assert {"mean", "sum", "draw"}.isdisjoint(words.get_vocab())
    pieces = train_tokenizer(TEXTS, 100, "bpe", min_frequency=2)
    assert "array" in pieces.get_vocab() and "mean" not in pieces.get_vocab()
    assert 1 not in encode(pieces, ["mean"], 64)[0]


def test_a_source_says_how_its_tokenizer_is_made() -> None:
    config = TextTableConfig(
        source="text_table",
        path="x",
        text="a",
        label="b",
        tokenizer="words",
        vocabulary_size=5,
        lowercase=False,
        min_frequency=2,
    )
    vocabulary = vocabulary_for(config, ["Red Red red blue blue blue green Green"], Path())
    assert set(vocabulary.tokenizer.get_vocab()) == {PADDING, UNKNOWN, "blue", "Red"}
