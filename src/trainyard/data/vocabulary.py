"""The tokens of a data set of texts: those of its training split, and the words of vectors that it begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import SPLITS, SplitName
from trainyard.data.problems import Problem
from trainyard.data.splits import Indices
from trainyard.data.text import (
    SPECIAL,
    UNKNOWN,
    TextConfig,
    cut_warning,
    encode_counted,
    train_tokenizer,
    unknown_warning,
)
from trainyard.data.word_vectors import WordVectors, read_vectors
from trainyard.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What makes tokens of texts, and what is known of the tokens before training."""

    tokenizer: Tokenizer
    vectors: WordVectors | None = None

    def input(self, max_tokens: int) -> dict[str, int]:
        """Return what a network must know of the tokens."""
        known = {"vocabulary_size": self.tokenizer.get_vocab_size(), "max_length": max_tokens}
        return known if self.vectors is None else known | {"vector_size": self.vectors.table.shape[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTexts:
    """The tokens of all splits."""

    vocabulary: Vocabulary
    texts: dict[SplitName, list[str]]
    tokens: dict[SplitName, tuple[NDArray[np.int32], NDArray[np.int64]]]
    """By split: the tokens of its texts behind one another, and where each text begins and the last one ends."""
    input: dict[str, int]
    """As in a `Card`."""
    warnings: tuple[Problem, ...]
    """Of word vectors, of texts that are longer than the limit, and of words that are not known."""


def encode_texts(config: object, texts: Sequence[str], rows: Mapping[SplitName, Indices], root: Path) -> EncodedTexts:
    """Fit the vocabulary on the texts of the training split, and encode those of all splits.

    Args:
        config: of the source.
        texts: of all samples.
        rows: of each split.
        root: what the path of word vectors is relative to.

    Raises:
        TrainyardError: as `vocabulary_for`.
    """
    if not isinstance(config, TextConfig):
        raise TypeError(f"{type(config).__name__} gives texts without saying how to tokenize them")
    chosen = {split: [texts[row] for row in rows[split]] for split in SPLITS}
    vocabulary = vocabulary_for(config, chosen["train"], root)
    encoded = {split: encode_counted(vocabulary.tokenizer, part, config.max_tokens) for split, part in chosen.items()}
    longer = sum(more for _, _, more in encoded.values())
    return EncodedTexts(
        vocabulary=vocabulary,
        texts=chosen,
        tokens={split: (tokens, offsets) for split, (tokens, offsets, _) in encoded.items()},
        input=vocabulary.input(config.max_tokens),
        warnings=(
            *(vocabulary.vectors.warnings if vocabulary.vectors else ()),
            *cut_warning(longer, sum(map(len, chosen.values())), config.max_tokens),
            *unknown_warning([encoded[split][0] for split in ("val", "test")], config.tokenizer),
        ),
    )


def vocabulary_for(config: TextConfig, texts: Iterable[str], root: Path) -> Vocabulary:
    """Return the vocabulary that a source asks for.

    Args:
        config: of the source.
        texts: of the training split.
        root: what the path of word vectors is relative to.

    Raises:
        InputError: it would hold no words.
        TrainyardError: the word vectors cannot be used, as `read_vectors` says.
    """
    tokenizer = train_tokenizer(
        texts, config.vocabulary_size, config.tokenizer, lowercase=config.lowercase, min_frequency=config.min_frequency
    )
    if tokenizer.get_vocab_size() <= len(SPECIAL):
        raise InputError(f"data.min_frequency: {config.min_frequency}: no word of the training split occurs so often; lower it")
    if config.vectors is None:
        return Vocabulary(tokenizer=tokenizer)
    vectors = read_vectors(config.vectors, root, tokenizer, config.vocabulary_size)
    _add_words(tokenizer, vectors.new)
    return Vocabulary(tokenizer=tokenizer, vectors=vectors)


def _add_words(tokenizer: Tokenizer, words: Sequence[str]) -> None:
    """Have a tokenizer of words know more of them, behind its own."""
    from tokenizers import models

    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    vocabulary |= {word: number for number, word in enumerate(words, len(vocabulary))}
    tokenizer.model = models.WordLevel(vocabulary, unk_token=UNKNOWN)
