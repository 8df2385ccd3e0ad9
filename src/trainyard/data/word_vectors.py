"""Word vectors that were trained on more text than there are labels for, from a file as word2vec, GloVe and fastText write it.

A line is a word and its numbers, after a first line in word2vec's and fastText's form that says how many of each there are.
The most frequent words come first. A file may be larger than the memory: a row is kept only where the vocabulary has, or has
room for, its word.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainyard.data.links import absent
from trainyard.data.packed import check_stated
from trainyard.data.problems import DataError, Problem, printable
from trainyard.data.table_encoding import FORMATS, MARKS
from trainyard.data.table_form import Findings, shown
from trainyard.data.text import SPECIAL, VectorsConfig
from trainyard.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST_LINE = 2**20
"""Bytes."""
GROWTH = 8
"""A table that is full grows by this part of itself."""
MOST_PROBLEMS = 20
"""Bad rows after which a file is read no further."""
FEW = 0.5
"""Share of the training split's words below which few of them have a vector."""
AS_TEXT = "a row is a word and its numbers, as text; gensim's save_word2vec_format writes word2vec's binary form so"
HEADER = re.compile(rb"(\d{1,18})\s+(\d{1,18})")
"""First line in word2vec's and fastText's form: how many words, and how many numbers of each."""
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
AS_WRITTEN, NORMALISED, SMALL, NONE = range(4)
"""How a row's word became one of the vocabulary's; the lower, the better its vector is for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordVectors:
    """The vectors of a vocabulary's words."""

    new: tuple[str, ...]
    """Words that only the file has, to be known behind the vocabulary's."""
    table: NDArray[np.float32]
    """(vocabulary with the new words, numbers of each); a row of zeros: the file has no such word."""
    about: str
    warnings: tuple[Problem, ...]


def read_vectors(config: VectorsConfig, root: Path, tokenizer: Tokenizer, size: int) -> WordVectors:
    """Return the vectors of a vocabulary, and the file's words, in their order, that there is room for besides.

    A word gets the vector of itself as it stands in the file; else of the first word there that the tokenizer makes it of
    (without capitals, say); else of itself in small letters.

    Args:
        config: names the file.
        root: what its path is relative to.
        tokenizer: knows the words of the training split.
        size: words at most, those of the tokenizer included.

    Raises:
        InputError: no such file, or no hash of it is stated.
        IntegrityError: it is another file than the recipe states.
        DataError: listing what is wrong with its rows.
    """
    _check_file(config, root)
    problems: list[Problem] = []
    found = Findings(config.path, problems)
    known = [word for word, _ in sorted(tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda entry: entry[1])]
    words = _Words(known, tokenizer, size)
    with (root / config.path).open("rb") as file:
        rows = _Rows(file, found)
        for word, fields in rows:
            if places := words.places(word):
                if (vector := rows.numbers(fields)) is None:
                    continue
                for place, how in places:
                    words.take(place, how, vector)
    if problems:
        raise DataError(config.path, problems)
    covered = sum(how < NONE for how in words.how[len(SPECIAL) : len(known)])
    own = len(known) - len(SPECIAL)
    if not covered:
        expected = "use vectors of the language of the texts, cut into words as they are: at spaces and signs"
        found.add("no-vectors", f"has none of the {own:,} words of the training split", expected)
        raise DataError(config.path, problems)
    if covered < FEW * own:
        said = f"has {covered:,} of the {own:,} words of the training split ({covered / own:.0%})"
        expected = "the others begin at random; other vectors may know more"
        expected += "" if words.lowercase else ", or data.lowercase: true may find more"
        found.add("few-vectors", said, expected, severity="warning")
    if rows.unreadable:
        found.add("not-utf-8", f"{rows.unreadable:,} words are not UTF-8", "these are left out", severity="warning")
    new = tuple(words.known[len(known) :])
    if words.is_full and not new:
        said = f"has words besides, and those of the training split fill data.vocabulary_size: {size:,}"
        found.add("no-room", said, "raise it, so that they are known too", severity="warning")
    about = f"word vectors of {covered:,} of their {own:,} words and of {len(new):,} more from {printable(config.path)}"
    return WordVectors(new=new, table=words.table[: len(words.known)], about=about, warnings=tuple(problems))


class _Words:
    """The words that are wanted, and the best vector of each so far."""

    def __init__(self, known: list[str], tokenizer: Tokenizer, size: int) -> None:
        self.known = list(known)
        self.how = [NONE] * len(known)
        self.table = np.zeros((0, 0), dtype=np.float32)
        self.is_full = False
        """Whether there was no room for a word of the file."""
        self._size = max(size, len(known))
        self._normalizer, self._pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        self.lowercase = self._normalizer.normalize_str("A") == "a"
        self._at = {word: place for place, word in enumerate(known)}
        self._capitals: dict[str, list[int]] = {}
        for place, word in enumerate(known[len(SPECIAL) :], len(SPECIAL)):
            if (small := word.lower()) != word:
                self._capitals.setdefault(small, []).append(place)

    def places(self, word: str) -> list[tuple[int, int]]:
        """Return for which words, by their numbers, the vector of this one is the best so far, and how good it is."""
        normal = self._normal(word)
        place = self._at.get(normal)
        if place is None and not self.is_full and self._is_one(normal):
            if len(self.known) < self._size:
                place = self._at[normal] = len(self.known)
                self.known.append(normal)
                self.how.append(NONE)
            else:
                self.is_full = True
        found = [] if place is None or place < len(SPECIAL) else [(place, AS_WRITTEN if word == normal else NORMALISED)]
        found += [(place, SMALL) for place in self._capitals.get(normal, ())]
        return [(place, how) for place, how in found if how < self.how[place]]

    def take(self, place: int, how: int, vector: NDArray[np.float32]) -> None:
        """Keep a vector for a word."""
        if place >= len(self.table):
            # Not for all that there is room for at once: a vocabulary may be asked to be larger than any memory.
            rows = min(self._size, max(len(self.known), place + 1 + len(self.table) // GROWTH))
            self.table.resize((rows, len(vector)), refcheck=False)
        self.table[place] = vector
        self.how[place] = how

    def _normal(self, word: str) -> str:
        if word.isascii():
            return word.lower() if self.lowercase else word
        return str(self._normalizer.normalize_str(word))

    def _is_one(self, word: str) -> bool:
        """Whether the tokenizer leaves a word in one piece: others can stand in no text."""
        if word.isascii() and word.isalnum():
            return True
        pieces = self._pre_tokenizer.pre_tokenize_str(word)
        return len(pieces) == 1 and pieces[0][0] == word


@dataclass(slots=True)
class _Rows:
    """The rows of a file: words, and their numbers as they stand there."""

    file: BinaryIO
    found: Findings
    size: int = 0
    """Numbers of each word."""
    unreadable: int = 0
    """Words that are not UTF-8."""
    line: int = 0

    def __iter__(self) -> Iterator[tuple[str, list[bytes]]]:
        """Yield word and numbers of each row; what is wrong is added to `found`."""
        stated: int | None = None
        rows = 0
        for first, line in self._lines():
            if first and (counts := HEADER.fullmatch(line.strip())):
                stated, self.size = (int(part) for part in counts.groups())
                continue
            self.size = self.size or len(line.split()) - 1
            if self.size < 1:
                self._problem("no-numbers", f"has no numbers: {shown(line.decode(errors='replace').strip())}", AS_TEXT)
                return
            word, *fields = line.rsplit(None, self.size)
            if (behind := self._behind(word, fields)) != self.size:
                others = "the others have" if stated is None else "the first line says"
                said = f"has {behind:,} numbers behind its word, {others} {self.size:,}"
                self._problem("cut-row" if behind < self.size else "long-row", said, f"get the whole file again; {AS_TEXT}")
                continue
            rows += 1
            try:
                yield word.strip().decode("utf-8"), fields
            except UnicodeDecodeError:
                self.unreadable += 1
        if self.found.problems:
            return
        if stated is not None and stated != rows:
            expected = "get the whole file again, or correct its first line"
            self.found.add("other-count", f"has {rows:,} words, its first line says {stated:,}", expected)
        if not rows:
            self.found.add("no-rows", "has no words", AS_TEXT)

    def _lines(self) -> Iterator[tuple[bool, bytes]]:
        """Yield the lines that hold something, and whether each is the first, until too much is wrong."""
        first = True
        while len(self.found.problems) < MOST_PROBLEMS and (line := self.file.readline(LONGEST_LINE)):
            self.line += 1
            if len(line) == LONGEST_LINE:
                self._problem("long-line", f"is longer than {LONGEST_LINE:,} bytes", AS_TEXT)
                return
            if self.line == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield first, line
                first = False

    def _behind(self, word: bytes, fields: list[bytes]) -> int:
        """Return how many numbers stand behind a row's word, which may hold spaces, as in GloVe's `. . .`."""
        _, *more = word.split()
        if len(fields) == self.size and not all(map(NUMBER.fullmatch, more)):
            return self.size
        return len(more) + len(fields)

    def numbers(self, fields: list[bytes]) -> NDArray[np.float32] | None:
        """Return the numbers of a row (numbers,) float32; None after adding to `found` why they are none."""
        try:
            values = [float(text) for text in fields]
        except ValueError:
            self._problem("no-number", "holds what is no number", "write numbers with a decimal point behind the word")
            return None
        if not all(map(math.isfinite, values)) or max(map(abs, values)) > float(np.finfo(np.float32).max):
            self._problem("not-finite", "holds a number that is not finite", "leave the word out, or train the vectors again")
            return None
        return np.array(values, dtype=np.float32)

    def _problem(self, rule: str, found: str, expected: str) -> None:
        self.found.add(rule, found, expected, at=self.line)


def _check_file(config: VectorsConfig, root: Path) -> None:
    path = root / config.path
    if missing := absent(root, config.path, "file"):
        found, fix = missing
        raise InputError(f"data.vectors.path: {config.path}: {found}; {fix}, or correct the path")
    if not path.is_file():
        raise InputError(f"data.vectors.path: {config.path}: is no file; name the text file with the vectors")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except PermissionError:
        raise InputError(f"data.vectors.path: {config.path}: cannot be read; make it readable for this user") from None
    for magic, kind in FORMATS:
        if start.startswith(magic):
            raise InputError(f"data.vectors.path: {config.path}: is {kind}; name a text file, such as the one packed in it")
    for mark, encoding in MARKS:
        if start.startswith(mark) and not encoding.startswith("utf-8"):
            raise InputError(f"data.vectors.path: {config.path}: is {encoding.upper()}; save it as UTF-8")
    check_stated(path, config.path, config.sha256 and config.sha256.lower(), "data.vectors")
