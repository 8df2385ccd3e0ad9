"""Docstrings of installed Python libraries: which library does this English paragraph describe?

The source files are parsed and never imported. A sample is the first paragraph of the docstring of a module, class or
function, so the text belongs to the library's authors and stands under its licence. What is in it depends on the
installed versions alone, which the card records: not on the order of files, nor on a seed.

The rule for what is taken out, so that no text says its answer (`strip_names`): roles and directives of Sphinx, all
that stands between backticks, addresses, dotted paths (`linalg.norm`), and every word that contains the name of a
library or one of its usual short names as a part (`np`, `PyTorch`, `RayActor`, `sklearn_tags`; not `array`). Words of
a field stay: a tensor is a tensor.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainyard.data.parallel import in_order
from trainyard.data.raw import RawDataset
from trainyard.data.splits import check_fractions
from trainyard.data.text import TokenizerKind, VectorsConfig, check_tokens
from trainyard.errors import InputError
from trainyard.params import Count, Fraction, Seed

NAMES = {
    "matplotlib": ("pyplot", "pylab", "plt", "mpl", "axisartist"),
    "mlflow": ("databricks",),
    "networkx": ("nx",),
    "numpy": ("np", "numarray", "f2py"),
    "pandas": ("pd",),
    "pytorch_lightning": ("lightning", "pl"),
    "ray": ("rllib", "raylet", "anyscale"),
    "scipy": ("fitpack", "sp"),
    "sklearn": ("scikit", "sk"),
    "sqlalchemy": ("sa",),
    "sympy": (),
    "torch": ("aten", "caffe2"),
}
"""Libraries, and by what other names their authors and users call them."""
DEFAULT_LIBRARIES = ("matplotlib", "mlflow", "networkx", "pandas", "scipy", "sklearn", "sqlalchemy", "torch")
"""Not NumPy: most of its docstrings are attached by calls (`add_newdoc`), so its definitions hold too few."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "pytorch_lightning": "pytorch-lightning"}
"""Of the libraries that are published under another name than they are imported by."""
CERTAIN_LENGTH = 5
"""A name this long counts wherever it stands in a word; a shorter one only as a whole part of a word, or as a word."""
FILES_PER_PIECE = 100
LEAST_WORDS = 8
"""Shorter texts, such as "Return the value as a string.", could stand in any library."""
FOREIGN_FOLDERS = re.compile(
    r"tests?|_?testing|__pycache__|node_modules|cloudpickle|externals?|.*vendor.*|third_?party.*|array_api_\w+"
)
"""Folders of tests, and of what a library carries along from another one."""
FOREIGN_FILES = re.compile(r"test_.*|.*_test|conftest")

_ROLE = re.compile(r":[\w:+.-]+:`[^`]*`|`+[^`]*`+_*|:\w[\w ]*:|\.\. +[\w-]+::")
_ADDRESS = re.compile(r"\w+://\S+|\S+@\S+|www\.\S+")
# `e.g` and `i.e` are no paths: one part has to have two letters.
_DOTTED = re.compile(r"\b(?!(?:\w\.)+\w\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"\w+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocstringsConfig:
    """Which libraries' docstrings, and how they become tokens."""

    source: Literal["docstrings"]
    path: Literal["requirements.lock"] = "requirements.lock"
    """What these data come with: libraries, in the versions locked there."""
    libraries: tuple[str, ...] = DEFAULT_LIBRARIES
    """Names by which they are imported: the classes."""
    max_per_library: Count = 2500
    """Texts of one class at most: those whose sha256 comes first."""
    tokenizer: TokenizerKind = "bpe"
    """words: each of the most frequent words is a token. bpe: pieces of words are, so that rare words are not lost."""
    vocabulary_size: Count = 8000
    """Tokens at most, padding and unknown included."""
    lowercase: bool = True
    """Whether capital letters are made small ones. false: where they say what a word is, as in names."""
    min_frequency: Count = 1
    """Times that a word (or a pair of pieces, for bpe) occurs in the training split at least to be a token; rarer words
    are unknown ones, of which the network then sees some."""
    max_tokens: Count = 64
    """Tokens of a text at most; what comes after them is cut off."""
    vectors: VectorsConfig | None = None
    """Word vectors to begin with, trained before on other text; for `tokenizer: words`. Their words are known besides those of
    the training split, up to `vocabulary_size`."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the samples."""
    test_fraction: Fraction = 0.2
    """Share of the samples."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        check_tokens(self)
        if len(self.libraries) < 2:
            raise ValueError(f"libraries: found {list(self.libraries)}; name at least two, to tell them apart")
        repeated = sorted({name for name in self.libraries if self.libraries.count(name) > 1})
        if repeated:
            raise ValueError(f"libraries: {', '.join(repeated)} stands there more than once; name each one once")


def load(config: DocstringsConfig) -> RawDataset:
    """Return texts, a list of N strings, and labels (N,) int64.

    Raises:
        InputError: a library is not installed, or has no docstrings to take.
    """
    folders = {library: _find(library) for library in config.libraries}
    by_library = _read(folders, _removed_names(config.libraries))
    shared = _in_several(by_library.values())
    texts: list[str] = []
    labels: list[int] = []
    for label, (library, found) in enumerate(by_library.items()):
        own = sorted((text for key, text in found.items() if key not in shared), key=_sha256)
        if not own:
            raise InputError(f"libraries: {library} has no docstring of {LEAST_WORDS} words that is its own; leave it out")
        texts += own[: config.max_per_library]
        labels += [label] * len(own[: config.max_per_library])
    return RawDataset(
        kind="text_classification",
        classes=config.libraries,
        arrays={"texts": texts, "labels": np.array(labels, dtype=np.int64)},
        about=(
            f"{len(texts):,} first paragraphs of docstrings of {len(config.libraries)} installed Python libraries, "
            "without the libraries' names and without code"
        ),
        libraries={_distribution(library): _version(library) for library in config.libraries},
        groups=group_near_duplicates(texts),
    )


def strip_names(text: str, libraries: Iterable[str] = ()) -> str:
    """Return a docstring's text on one line, without code, paths and the names of libraries.

    Args:
        text: one paragraph.
        libraries: whose names are taken out besides those in `NAMES`.
    """
    return _strip(text, _removed_names(libraries))


def group_near_duplicates(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return a number for each text (N,): the same for texts that differ in digits, signs and short words only."""
    numbers: dict[str, int] = {}
    groups = []
    for text in texts:
        words = [word for word in re.findall(r"[^\W\d_]+", text.casefold()) if len(word) > 3]
        groups.append(numbers.setdefault(" ".join(words) or text, len(numbers)))
    return np.array(groups, dtype=np.int64)


def _find(library: str) -> Path:
    """Return the folder of a library, without importing it."""
    # Looking for `a.b` would import `a`.
    if library.isidentifier():
        spec = importlib.util.find_spec(library)
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    installed = [name for name in NAMES if importlib.util.find_spec(name) is not None]
    raise InputError(
        f"libraries: {library} is not an installed Python package; install it, or choose of {', '.join(installed)}"
    )


def _distribution(library: str) -> str:
    return DISTRIBUTIONS.get(library, library)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(_distribution(library))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _read(folders: Mapping[str, Path], removed: frozenset[str]) -> dict[str, dict[str, str]]:
    """Return the texts of each library as `_distinct` does, read on all processors."""
    pieces = []
    for library, folder in folders.items():
        files = _files(folder)
        pieces += [(library, files[start : start + FILES_PER_PIECE]) for start in range(0, len(files), FILES_PER_PIECE)]
    # A process takes longer to start than a piece to read.
    workers = -1 if len(pieces) > len(folders) else 1
    found: dict[str, dict[str, str]] = {library: {} for library in folders}
    work = partial(_distinct_of_files, removed=removed)
    for (library, _), texts in zip(pieces, in_order(work, (files for _, files in pieces), workers), strict=True):
        for key, text in texts.items():
            found[library][key] = min(text, found[library].get(key, text))
    return found


def _files(folder: Path) -> list[Path]:
    """Return a library's own source files."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not FOREIGN_FOLDERS.fullmatch(name))
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix == ".py" and not FOREIGN_FILES.fullmatch(stem):
                found.append(Path(parent, name))
    return found


def _distinct_of_files(paths: Sequence[Path], removed: frozenset[str]) -> dict[str, str]:
    return _distinct((paragraph for path in paths for paragraph in _first_paragraphs(path.read_bytes())), removed)


def _first_paragraphs(source: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            # Of invalid escapes in others' code.
            warnings.simplefilter("ignore")
            nodes: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):
        # Templates, and code for another version of Python.
        return
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield re.split(r"\n\s*\n", docstring, maxsplit=1)[0]
        # Definitions stand in statements only; most of a tree is expressions.
        nodes += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]


def _distinct(paragraphs: Iterable[str], removed: frozenset[str]) -> dict[str, str]:
    """Return the texts that are long enough, by what they are without regard to case."""
    found: dict[str, str] = {}
    for paragraph in paragraphs:
        text = _strip(paragraph, removed)
        if len(re.findall(r"[^\W\d_]+", text)) >= LEAST_WORDS:
            key = text.casefold()
            # Whichever file came first, the same spelling stays.
            found[key] = min(text, found.get(key, text))
    return found


def _in_several(libraries: Iterable[Iterable[str]]) -> set[str]:
    """Return the texts of more than one library: nobody could tell whose they are."""
    seen: set[str] = set()
    shared: set[str] = set()
    for texts in map(set, libraries):
        shared |= seen & texts
        seen |= texts
    return shared


def _removed_names(libraries: Iterable[str]) -> frozenset[str]:
    known = (name for library, others in NAMES.items() for name in (library, *others))
    return frozenset(name.casefold() for name in (*known, *libraries))


def _strip(text: str, removed: frozenset[str]) -> str:
    for pattern in (_ROLE, _ADDRESS, _DOTTED):
        text = pattern.sub(" ", text)
    return " ".join(_WORD.sub(lambda match: "" if _tells(match[0], removed) else match[0], text).split())


@lru_cache(maxsize=100_000)
def _tells(word: str, removed: frozenset[str]) -> bool:
    """Whether a word holds the name of a library."""
    folded = word.casefold()
    if folded in removed or any(len(name) >= CERTAIN_LENGTH and name in folded for name in removed):
        return True
    return any(part.casefold() in removed for part in _PARTS.findall(word))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
