"""Texts as token ids: a tokenizer fitted on the training split, and ragged arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trainyard.data.problems import Problem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenizerKind = Literal["words", "bpe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsConfig:
    """Word vectors to begin with, trained before on other text."""

    path: str
    """Of a text file, a word and its numbers on each line, as word2vec, GloVe and fastText write them; relative to the
    project. For `tokenizer: words`."""
    sha256: str | None = None
    """Of the file, so that another file is other data. Left out, the message says what it is."""


@runtime_checkable
class TextConfig(Protocol):
    """What a source of texts says of their tokens."""

    @property
    def tokenizer(self) -> TokenizerKind: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def lowercase(self) -> bool: ...
    @property
    def min_frequency(self) -> int: ...
    @property
    def vectors(self) -> VectorsConfig | None: ...


PADDING, UNKNOWN = "[PAD]", "[UNK]"
"""Token ids 0 and 1."""
SPECIAL = (PADDING, UNKNOWN)
"""Stand first in every vocabulary, and are no words."""
UNKNOWN_ID = 1
MANY_UNKNOWN = 1 / 3
"""Share of the tokens of texts that were not trained on, from which on it is said that the vocabulary does not know them."""
ENCODED_AT_ONCE = 5000
"""Texts."""


def check_tokens(config: TextConfig) -> None:
    """Refuse a vocabulary without a token of a text, and vectors of words for tokens that are none.

    Raises:
        ValueError: saying so.
    """
    if config.vocabulary_size <= len(SPECIAL):
        least = len(SPECIAL) + 1
        raise ValueError(
            f"vocabulary_size: {config.vocabulary_size} has no room beside padding and unknown; use {least} or more"
        )
    if config.vectors is not None and config.tokenizer != "words":
        raise ValueError(f"vectors: are of words, but tokenizer: {config.tokenizer} makes pieces of them; use tokenizer: words")


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, kind: TokenizerKind, *, lowercase: bool = True, min_frequency: int = 1
) -> Tokenizer:
    """Return a tokenizer of text that is cut at spaces and signs.

    Args:
        texts: of the training split.
        vocabulary_size: tokens at most, padding and unknown included.
        kind: words: the most frequent words. bpe: byte pair encoding (Sennrich 2016, arXiv:1508.07909), pieces of words
            that are merged from characters in the order of their frequency, so that rare words are not lost.
        lowercase: whether capital letters are made small ones first.
        min_frequency: times that a word, or a pair of pieces, occurs at least to become a token.
    """
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.normalizers import NFKC, Lowercase, Sequence
    from tokenizers.pre_tokenizers import Whitespace

    special = list(SPECIAL)
    trainer: trainers.Trainer
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocabulary_size, min_frequency=min_frequency, special_tokens=special, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        # Half of the vocabulary at most for single characters, of which texts in many scripts have thousands.
        characters = max(1, (vocabulary_size - len(special)) // 2)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=min_frequency,
            special_tokens=special,
            limit_alphabet=characters,
            show_progress=False,
        )
    tokenizer.normalizer = Sequence([NFKC(), *([Lowercase()] if lowercase else [])])
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return all texts' tokens in a row, (sum of lengths,) int32, and where each one starts, offsets (N + 1,) int64.

    A text without tokens becomes one unknown token, so that every text has a first and a last one.
    """
    tokens, offsets, _ = encode_counted(tokenizer, texts, max_tokens)
    return tokens, offsets


def encode_counted(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Return what `encode` does, and how many texts have more tokens than that."""
    parts, lengths, longer = [np.zeros(0, dtype=np.int32)], [], 0
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        # The library keeps much more of each token than its number, so not of all texts at once.
        encodings = tokenizer.encode_batch_fast(list(texts[start : start + ENCODED_AT_ONCE]))
        longer += sum(len(encoding) > max_tokens for encoding in encodings)
        ids = [encoding.ids[:max_tokens] or [UNKNOWN_ID] for encoding in encodings]
        lengths += [len(tokens) for tokens in ids]
        parts.append(np.fromiter((token for tokens in ids for token in tokens), dtype=np.int32))
    return np.concatenate(parts), np.cumsum([0, *lengths], dtype=np.int64), longer


def cut_warning(longer: int, texts: int, max_tokens: int) -> list[Problem]:
    """Return what to say where texts are longer than the limit."""
    found = f"{longer:,} of {texts:,} texts ({longer / max(1, texts):.1%}) have more than {max_tokens} tokens"
    expected = "what comes after them is cut off; raise data.max_tokens to keep more"
    problem = Problem(rule="cut-texts", where="data.max_tokens", found=found, expected=expected, severity="warning")
    return [problem] if longer else []


def unknown_warning(parts: Sequence[NDArray[np.int32]], kind: TokenizerKind) -> list[Problem]:
    """Return what to say where a vocabulary knows little of the texts that it was not made from.

    Args:
        parts: tokens of the validation and the test split.
        kind: of the tokenizer.
    """
    unknown, count = (
        sum(numbers) for numbers in zip(*((int((part == UNKNOWN_ID).sum()), len(part)) for part in parts), strict=True)
    )
    if unknown < MANY_UNKNOWN * count:
        return []
    found = (
        f"{unknown / count:.0%} of the tokens of the val and test texts are unknown: all of them look the same to the network"
    )
    expected = (
        "text without spaces between words needs tokenizer: bpe, which knows pieces of words; else raise data.vocabulary_size"
        if kind == "words"
        else "raise data.vocabulary_size, of which single characters take half at most"
    )
    return [Problem(rule="unknown-tokens", where="data.tokenizer", found=found, expected=expected, severity="warning")]
