"""Texts with labels from a table: a file, or a folder with one for each of train, val and test.

A row is a sample. Labels are what the column holds, as it stands there: numbers are names of classes like others, sorted by
their size where all of them are whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainyard.data.groups import check_groups, number_groups
from trainyard.data.problems import DataError, Problem, printable, settle
from trainyard.data.raw import RawDataset
from trainyard.data.splits import check_fractions, official_split
from trainyard.data.table_form import IN_THE_RECIPE, Block, Delimiter, Encoding, Findings, OpenTable, TableForm, shown
from trainyard.data.tables import SUFFIXES, check_columns, open_table, read_blocks
from trainyard.data.text import TokenizerKind, VectorsConfig, check_tokens
from trainyard.data.text_checks import LISTED, SPLITS, Samples, check_classes, check_leaks, compare
from trainyard.params import Count, Fraction, Seed, nearest

SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}
UNKNOWN_SPLIT = -1
PART = re.compile(rf"({'|'.join(SPLIT_NAMES)})(-\d+-of-\d+)?")
"""Name of a file of a split, or of a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTableConfig:
    """Which columns hold texts and labels, and how texts become tokens."""

    source: Literal["text_table"]
    path: str
    """Of a table (CSV, TSV, JSON lines, Parquet), or of a folder with train, val and test ones; relative to the project."""
    text: str | tuple[str, ...]
    """Column of the texts; several are joined by a space."""
    label: str
    """Column of the classes."""
    group: str | None = None
    """Column of what must not be in two splits, such as authors or documents."""
    split: str | None = None
    """Column that says train, val or test of each row."""
    columns: tuple[str, ...] | None = None
    """Names of all columns in their order, for files without a header."""
    encoding: Encoding = "auto"
    """Of the files' characters. auto: UTF-16 where its byte order mark stands at the start, else UTF-8."""
    delimiter: Delimiter = "auto"
    """What stands between the fields of a row. auto: the one that cuts the first rows alike."""
    quotes: bool = True
    """false: a quote is a character like any other, as in many TSV files."""
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
    on_bad_sample: Literal["stop", "skip"] = "stop"
    """stop at rows that cannot be used, or leave them out and count them."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the samples, where nothing says which."""
    test_fraction: Fraction = 0.2
    """Share of the samples, where nothing says which."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        check_tokens(self)
        if not self.texts:
            raise ValueError("text: is empty; name the column of the texts")
        used = self.used
        if twice := sorted({name for name in used if used.count(name) > 1}):
            raise ValueError(f"column '{twice[0]}' is named twice among text, label, group and split; name each column once")
        if self.columns is not None:
            if missing := [name for name in used if name not in self.columns]:
                raise ValueError(
                    f"column '{missing[0]}' is not among columns {', '.join(self.columns)}"
                    f"{nearest(missing[0], self.columns)}; name it there, or correct it"
                )
            if len(set(self.columns)) < len(self.columns):
                raise ValueError(f"columns: {', '.join(self.columns)} holds a name twice; give each column its own")

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of the texts."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def table_form(self) -> TableForm:
        """How the files are written."""
        return TableForm(
            columns=self.columns,
            encoding=self.encoding,
            delimiter=self.delimiter,
            quotes=self.quotes,
            advice=IN_THE_RECIPE,
        )

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.texts, self.label, *(name for name in (self.group, self.split) if name is not None))


def load(config: TextTableConfig, root: Path) -> RawDataset:
    """Return texts, a list of N strings, and labels (N,) int64, in the order of files and rows.

    Raises:
        DataError: listing all that is wrong with the files.
    """
    problems: list[Problem] = []
    samples, about = Samples(), ""
    for split, name in _files(config, root, problems):
        table = open_table(root, name, config.table_form, problems, config.used)
        if table is None or not check_columns(table, config.used):
            continue
        about = about or table.about
        for block in read_blocks(table, config.used, config.texts):
            _add(samples, block, config, split, table)
    if any(problem.severity != "warning" and not problem.sample for problem in problems):
        raise DataError(config.path, problems)
    found = Findings(config.path, problems)
    classes = check_classes(samples, config.label, found)
    if config.group is not None:
        check_groups(samples.groups, samples.splits, config.group, found)
    check_leaks(samples, config.label, found)
    warnings, skipped = settle(config.path, problems, config.on_bad_sample)
    numbers = {name: number for number, name in enumerate(classes)}
    return RawDataset(
        kind="text_classification",
        classes=classes,
        arrays={"texts": samples.texts, "labels": np.array([numbers[label] for label in samples.labels], dtype=np.int64)},
        about=f"{len(samples.texts):,} texts of {len(classes)} classes from {printable(config.path)} ({about})",
        groups=number_groups(samples.groups) if config.group is not None else None,
        split=official_split(samples.splits),
        names=tuple(samples.names),
        warnings=warnings,
        skipped=skipped,
    )


def split_files(folder: Path) -> dict[str, int]:
    """Return the tables of a folder that are named after a split, with the number of their split, in the order of names."""
    found = {}
    for entry in sorted(folder.iterdir()):
        match = PART.fullmatch(entry.stem.lower())
        if match and entry.suffix.lower() in SUFFIXES:
            found[entry.name] = SPLIT_NAMES[match[1]]
    return found


def _files(config: TextTableConfig, root: Path, problems: list[Problem]) -> list[tuple[int, str]]:
    """Return split and name of each file; what is wrong with them is added to `problems`."""
    path = root / config.path
    if not path.is_dir() or not path.resolve().is_relative_to(root.resolve()):
        return [(0, config.path)]
    found, files = Findings(config.path, problems), split_files(path)
    for number, split in enumerate(SPLITS):
        of_split = [name for name, place in files.items() if place == number]
        if len(of_split) > 1 and not all("-of-" in name for name in of_split):
            found.add("two-files", f"{', '.join(of_split)} for split {split}", "keep one file for each split")
    if 0 not in files.values():
        have = ", ".join(files) or "no tables named after a split"
        found.add("no-train", have, f"name the training table train{SUFFIXES[0]}, or point data.path at a file")
    if config.split is not None and len(files) > 1:
        expected = "remove data.split, or keep one table"
        found.add("two-splits", f"column {config.split} beside {', '.join(files)}", expected)
    tables = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    if others := [name for name in tables if name not in files and not name.startswith((".", "README", "LICENSE"))]:
        found.add("stray-files", ", ".join(others[:LISTED]), "left out: not named after a split", severity="warning")
    return [(split, f"{config.path.rstrip('/')}/{name}") for name, split in files.items()]


def _add(samples: Samples, block: Block, config: TextTableConfig, split: int, table: OpenTable) -> None:
    """Add the good rows of a block; what is wrong with the others is added to the table's findings."""
    nothing = [""] * len(block.lines)
    labels = block.cells[config.label]
    groups = nothing if config.group is None else block.cells[config.group]
    places = nothing if config.split is None else block.cells[config.split]
    columns = [block.cells[name] for name in config.texts]
    file = Path(table.name).name
    for line, label, group, place, *parts in zip(block.lines, labels, groups, places, *columns, strict=True):
        text = parts[0] if len(parts) == 1 else " ".join(part for part in parts if part.strip())
        number = split if config.split is None else SPLIT_NAMES.get(place.strip().lower(), UNKNOWN_SPLIT)
        if faults := _faults(config, text, label, group, place, number):
            for rule, said, expected in faults:
                table.found.row(rule, line, said, expected)
            continue
        compare(samples, config.texts, parts, label)
        samples.texts.append(text)
        samples.labels.append(str(label))
        samples.groups.append(group.strip())
        samples.splits.append(number)
        samples.names.append(f"{file}:{line}")


def _faults(config: TextTableConfig, text: str, label: str, group: str, place: str, number: int) -> list[tuple[str, str, str]]:
    """Return rule, found and expected of everything that is wrong with a row."""
    faults = []
    if not _readable(text):
        faults.append(("empty-text", f"no text in {' and '.join(config.texts)}", "write one, or delete the row"))
    if not label.strip():
        faults.append(("no-label", f"nothing in column {config.label}", "name the class, or delete the row"))
    if config.group is not None and not group.strip():
        faults.append(("no-group", f"nothing in column {config.group}", "name the group, or delete the row"))
    if number == UNKNOWN_SPLIT:
        faults.append(("unknown-split", f"column {config.split} holds {shown(place)}", "write train, val or test"))
    return faults


def _readable(text: str) -> bool:
    """Whether a text holds a character that shows; spaces, controls and marks without width do not."""
    return text[:1].isalnum() or any(sign.isprintable() and not sign.isspace() for sign in text)
