"""Texts as token ids: a tokenizer fitted on the training split, and ragged arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenizerKind = Literal["words", "bpe"]


@runtime_checkable
class TextConfig(Protocol):
    """What a source of texts says of their tokens."""

    @property
    def tokenizer(self) -> TokenizerKind: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


PADDING, UNKNOWN = "[PAD]", "[UNK]"
"""Token ids 0 and 1."""
UNKNOWN_ID = 1


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, kind: TokenizerKind) -> Tokenizer:
    """Return a tokenizer of lower-case text, cut at spaces and signs.

    Args:
        texts: of the training split.
        vocabulary_size: tokens at most, padding and unknown included.
        kind: words: the most frequent words. bpe: byte pair encoding (Sennrich 2016, arXiv:1508.07909), pieces of words
            that are merged from characters in the order of their frequency, so that rare words are not lost.
    """
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.normalizers import NFKC, Lowercase, Sequence
    from tokenizers.pre_tokenizers import Whitespace

    special = [PADDING, UNKNOWN]
    trainer: trainers.Trainer
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        trainer = trainers.WordLevelTrainer(vocab_size=vocabulary_size, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        # Half of the vocabulary at most for single characters, of which texts in many scripts have thousands.
        characters = max(1, (vocabulary_size - len(special)) // 2)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size, special_tokens=special, limit_alphabet=characters, show_progress=False
        )
    tokenizer.normalizer = Sequence([NFKC(), Lowercase()])
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return all texts' tokens in a row, (sum of lengths,) int32, and where each one starts, offsets (N + 1,) int64.

    A text without tokens becomes one unknown token, so that every text has a first and a last one.
    """
    ids = [encoding.ids[:max_tokens] or [UNKNOWN_ID] for encoding in tokenizer.encode_batch(list(texts))]
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(tokens) for tokens in ids], out=offsets[1:])
    tokens = np.array([token for text in ids for token in text], dtype=np.int32)
    return tokens, offsets
