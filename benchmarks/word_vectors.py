"""Train word vectors on the dictionaries that Debian packages, for recipes whose texts are few, such as examples/trec.yaml.

    apt-get install wordnet-base dict-gcide
    pip install '.[vectors]'
    python benchmarks/word_vectors.py data/raw/words.vec

Skip-gram with negative sampling (Mikolov 2013, arXiv:1310.4546), by gensim. What is read: each word of WordNet, in the words
`WORD is a HYPERNYMS : GLOSS`, so that it stands near what it is a kind of; and the entries of the Collaborative International
Dictionary of English. No text of a data set is: what a recipe is tested on is as new to the vectors as to the network.

With one worker, the same machine and the same packages give the same file.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WORD = re.compile(r"\w+")
"""As a recipe's tokenizer cuts texts."""
SOURCE_NOTE = re.compile(r"\[[^\]]*\]|[{}]")
"""Of the dictionary: who wrote an entry, and the marks of a word that has one of its own."""
SENTENCE_END = re.compile(r"\n\s*\n|(?<=[.;:])\s")
LEAST_WORDS = 3
SYNONYMS, KINDS = 4, 2
"""Words taken of a WordNet entry, and of each that it is a kind of."""


class Synset(NamedTuple):
    """Words of one meaning."""

    words: list[str]
    kinds: list[tuple[str, str]]
    """Place and part of speech of what it is a kind, or an instance, of."""
    gloss: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="text file of word2vec's form")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder with data.noun and the like")
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/dictd/gcide.dict.dz"))
    parser.add_argument("--size", type=int, default=192, help="numbers of a word: the recipe's model.embedding_size")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        sys.exit(f"{error}; install it: pip install '.[vectors]'")
    sentences = [*wordnet_sentences(arguments.wordnet), *dictionary_sentences(arguments.dictionary)]
    print(f"{len(sentences):,} sentences of {sum(map(len, sentences)):,} words", flush=True)
    began = time.monotonic()
    model = Word2Vec(
        sentences,
        vector_size=arguments.size,
        window=5,
        min_count=3,
        sg=1,
        negative=8,
        sample=1e-4,
        epochs=arguments.epochs,
        workers=1,
        seed=0,
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    model.wv.save_word2vec_format(str(arguments.out))
    print(f"{len(model.wv):,} words of {arguments.size} numbers in {time.monotonic() - began:.0f} s: {arguments.out}")
    print(f"sha256: {hashlib.sha256(arguments.out.read_bytes()).hexdigest()}")


def wordnet_sentences(folder: Path) -> Iterator[list[str]]:
    """Yield what WordNet says of each word, in its order."""
    synsets: dict[tuple[str, str], Synset] = {}
    for part in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{part}"
        if not path.is_file():
            sys.exit(f"{path}: no such file; install Debian's wordnet-base, or say where it is with --wordnet")
        with path.open(encoding="latin-1") as file:
            synsets |= dict(_synset(line) for line in file if not line.startswith(" "))
    for synset in synsets.values():
        above = [synsets[place] for place in synset.kinds if place in synsets]
        kinds = [word for one in above for word in one.words[:KINDS]]
        kinds += [synsets[place].words[0] for one in above for place in one.kinds if place in synsets]
        for word in synset.words[:SYNONYMS]:
            yield WORD.findall(f"{word} is a {' , '.join(kinds)} : {synset.gloss}".lower())


def _synset(line: str) -> tuple[tuple[str, str], Synset]:
    """Read a line as wndb(5WN) describes it."""
    head, gloss = line.split("|", 1)
    place, _, part, count, *rest = head.split()
    end = 2 * int(count, 16)
    # An adjective may say in brackets where it stands: `galore(ip)`.
    words = [word.split("(")[0].replace("_", " ") for word in rest[:end:2]]
    pointers = rest[end + 1 : end + 1 + 4 * int(rest[end])]
    kinds = [(pointers[at + 1], pointers[at + 2]) for at in range(0, len(pointers), 4) if pointers[at] in ("@", "@i")]
    return (place, "a" if part == "s" else part), Synset(words, kinds, gloss.strip())


def dictionary_sentences(path: Path) -> Iterator[list[str]]:
    """Yield the sentences of a dictionary in the form of dictd."""
    if not path.is_file():
        sys.exit(f"{path}: no such file; install Debian's dict-gcide, or say where it is with --dictionary")
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        text = SOURCE_NOTE.sub(" ", file.read())
    for sentence in SENTENCE_END.split(text):
        words = WORD.findall(sentence.lower())
        if len(words) >= LEAST_WORDS:
            yield words


if __name__ == "__main__":
    main()
