"""Texts as token ids: a tokenizer fitted on the training split, and ragged arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING, UNKNOWN = "[PAD]", "[UNK]"
"""Token ids 0 and 1."""
UNKNOWN_ID = 1


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Return a word-level tokenizer: the most frequent lower-case words and signs of the texts.

    Args:
        texts: of the training split.
        vocabulary_size: tokens at most, padding and unknown included.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import NFKC, Lowercase, Sequence
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.trainers import WordLevelTrainer

    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = Sequence([NFKC(), Lowercase()])
    tokenizer.pre_tokenizer = Whitespace()
    trainer = WordLevelTrainer(vocab_size=vocabulary_size, special_tokens=[PADDING, UNKNOWN], show_progress=False)
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
