"""What the columns of a table look like, from its first rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from trainyard.data.problems import DataError, Problem, printable
from trainyard.data.series_csv import NOTHING
from trainyard.data.series_time import PLAIN, ZONED, read_times
from trainyard.data.table_form import IN_THE_FILE, TableForm
from trainyard.data.tables import CSV, open_table, read_blocks
from trainyard.data.text_table import split_files
from trainyard.errors import InputError
from trainyard.params import nearest
from trainyard.recipe_text import in_quotes

LOOKED_AT = 20_000
"""Rows whose cells are kept to see what they are; all are counted, and `trainyard check` looks at all."""
MOSTLY = 0.95
"""Share of the cells from which on they tell what a column holds."""
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*")
DATE_LIKE = re.compile(r"\s*\d{1,4}[./-]\d{1,2}([./-]\d{1,4})?(\D.*)?\s*|\s*[A-Za-z]{3,9}\.? \d{1,2},? \d{4}.*")
"""Dates in any way of writing them."""
TIME_NAMES = ("date", "datetime", "timestamp", "time", "ds", "ts", "epoch", "unix", "year")
AMOUNT = re.compile(r"[\d\s.,:/+%€$£¥()\u2212-]*")
"""Signs of numbers alone, with spaces between thousands, currencies and the like."""
TIME_PARTS = {"year", "yr", "month", "mnth", "day", "hour", "hours", "hr", "minute", "minutes", "second", "seconds", "time"}
"""Words in the names of columns that say a part of a time only."""
CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*([AaPp][Mm])?\s*")
"""A time of day."""
RECENT = 1_000_000_000_000_000
"""Microseconds since 1970, in 2001: what epoch numbers are mostly above, and measured ones below."""
TIMES_READ = 200
BY_HAND = replace(
    IN_THE_FILE,
    header="write the names of the columns above it, or write the recipe by hand, with data.columns",
    encoding="save the file as UTF-8, or write the recipe by hand, with its encoding, such as data.encoding: cp1252",
    unmarked="save it as UTF-8, or write the recipe by hand, with data.encoding: utf-16-le",
)
"""What can be done about a table of which a recipe is to be made."""
DIGITS = re.compile(r"\d{1,18}(\.0)?")
COUNTED = 10
"""Rows of a table at least, to see that a column counts them."""
YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a user said of columns; what was left open is guessed."""

    text: tuple[str, ...] = ()
    label: str = ""
    time: str = ""
    target: tuple[str, ...] = ()
    series: str = ""
    horizon: int = 0
    context: int = 0

    def given(self) -> list[str]:
        """Return the options that were used."""
        return [f"--{field.name}" for field in fields(self) if getattr(self, field.name)]


@dataclass(frozen=True, kw_only=True)
class Column:
    """The first cells of a column; what was found of them is kept, as it is asked for again and again."""

    name: str
    cells: list[str]

    @cached_property
    def filled(self) -> list[str]:
        """The cells that are not empty."""
        return [cell for cell in self.cells if cell.strip()]

    def is_number(self) -> bool:
        """Whether what it holds are numbers."""
        return self._numbers

    @cached_property
    def _numbers(self) -> bool:
        said = [cell for cell in self.filled if cell.strip().lower() not in NOTHING]
        return bool(said) and sum(NUMBER.fullmatch(cell) is not None for cell in said) >= MOSTLY * len(said)

    def missing(self) -> int:
        """Return how many cells are empty, or say that there is no number."""
        return sum(not cell.strip() or cell.strip().lower() in NOTHING for cell in self.cells)

    def is_time(self) -> bool:
        """Whether what it holds are dates, or numbers under a name for times."""
        return self._times

    @cached_property
    def _times(self) -> bool:
        cells = self.filled[:TIMES_READ]
        problems: list[Problem] = []
        clock = read_times(cells, range(len(cells)), self.name, problems)
        bad = sum(problem.severity != "warning" for problem in problems)
        if not cells or bad > (1 - MOSTLY) * len(cells):
            return False
        if clock.form in (PLAIN, ZONED) or self.name.lower() in TIME_NAMES:
            return True
        return bool(words(self.name) & set(TIME_NAMES)) and int(np.median(clock.times)) > RECENT

    def is_date_like(self) -> bool:
        """Whether what it holds are dates in a way of writing them that is not read."""
        filled = self.filled[:TIMES_READ]
        like = sum(DATE_LIKE.fullmatch(cell) is not None for cell in filled)
        return bool(filled) and like >= MOSTLY * len(filled) and not self.is_number() and not self.is_time()

    def is_time_part(self) -> bool:
        """Whether what it holds is a time of day, or a part of a time, such as the hour."""
        filled = self.filled[:TIMES_READ]
        if filled and all(CLOCK.fullmatch(cell) for cell in filled):
            return True
        return bool(words(self.name) & TIME_PARTS) and self.is_number()

    def counts_rows(self) -> bool:
        """Whether what it holds are the numbers of the rows, as an index that was written along."""
        cells = [cell.strip() for cell in self.cells]
        if len(cells) < COUNTED or not all(DIGITS.fullmatch(cell) for cell in cells):
            return False
        numbers = [int(cell.partition(".")[0]) for cell in cells]
        return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def is_text(self) -> bool:
        """Whether what it holds are sentences or the like: words, and mostly different ones in each row."""
        filled = self.filled
        # Remarks in some rows, and what was cut off at a comma, are not what is to be learned.
        if len(filled) < max(1, len(self.cells) / 2) or self.is_number() or self.is_time() or self.is_date_like():
            return False
        if sum(AMOUNT.fullmatch(cell) is not None for cell in filled) > len(filled) / 2:
            return False
        # Several scripts have no spaces between words.
        length = sum(len(cell.split()) if cell.isascii() else max(len(cell.split()), len(cell) / 4) for cell in filled)
        return length >= 2 * len(filled) and len(set(filled)) >= len(filled) / 2

    def classes(self) -> int:
        """Return how many different values it holds."""
        return len(set(self.filled))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A table, or the training table of a folder."""

    path: Path
    files: tuple[str, ...]
    """Tables of a folder, which are named after their split; none where the path is that of a file."""
    rows: int
    about: str
    """How it is written."""
    columns: dict[str, Column]
    left_out: dict[str, str]
    """Columns that no recipe can use, and why."""

    def listed(self) -> str:
        """Return the names of the columns, for messages."""
        left_out = "; ".join(f"{name} left out, {why}" for name, why in self.left_out.items())
        return printable(", ".join(self.columns) + (f" ({left_out})" if left_out else ""))

    def whole(self, names: Sequence[str]) -> dict[str, Column]:
        """Return columns with the cells of all rows, which are read again where they are many."""
        if all(len(self.columns[name].cells) == self.rows for name in names):
            return {name: self.columns[name] for name in names}
        # A series is one table, never a folder of them.
        table = open_table(self.path.parent, self.path.name, TableForm(), [], tuple(names))
        cells: dict[str, list[str]] = {name: [] for name in names}
        for block in read_blocks(table, tuple(self.columns)) if table else ():
            for name in names:
                cells[name] += block.cells[name]
        return {name: Column(name=name, cells=cells[name]) for name in names}


def look(path: Path, named: Named) -> Look:
    """Return what a table, or the first training table of a folder, holds.

    Raises:
        DataError: it cannot be read.
        InputError: there is none, or it has no column of a name that the user gave.
    """
    files = split_files(path) if path.is_dir() else {}
    training = [name for name, split in files.items() if split == 0]
    if path.is_dir() and not training:
        raise InputError(f"{path}: holds no table for training; give the path of a table, or name one train.csv")
    root, name = (path, training[0]) if path.is_dir() else (path.parent, path.name)
    wanted = tuple(word for word in (*named.text, named.label, named.time, *named.target, named.series) if word)
    problems: list[Problem] = []
    table = open_table(root, name, TableForm(advice=BY_HAND), problems, wanted)
    if table is None:
        raise DataError(str(path), problems)
    once = [column for column in dict.fromkeys(table.columns) if column and table.columns.count(column) == 1]
    if len(table.columns) < 2 and Path(name).suffix.lower() in CSV:
        expected = (
            "a table has several, named in its first row, with commas, semicolons, tabs or bars between them: "
            "delete what stands above, such as a title, and write one of these between the fields"
        )
        raise InputError(f"{path}: holds one column, '{printable(table.columns[0])}'; {expected}")
    known = [column for column in once if column in wanted or column not in table.not_plain]
    left_out = {column: "as it holds no plain values in each row" for column in once if column not in known}
    left_out |= {column: "as several columns have this name" for column in table.columns if column and column not in once}
    for word in wanted:
        if word not in known:
            raise InputError(f"{path}: has no column '{word}'; it has {', '.join(known)}{nearest(word, known)}")
    cells: dict[str, list[str]] = {column: [] for column in known}
    rows = 0
    for block in read_blocks(table, known):
        if rows < LOOKED_AT:
            for column in known:
                cells[column] += block.cells[column]
        rows += len(block.lines)
    if not rows:
        raise DataError(str(path), problems)
    columns = {column: Column(name=column, cells=cells[column]) for column in known}
    return Look(path=path, files=tuple(files), rows=rows, about=table.about, columns=columns, left_out=left_out)


def no_header(table: Look, name: str) -> InputError:
    """Return what to say of a table whose first row is no header."""
    return InputError(
        f"{table.path}: has no header: its first row, with '{printable(name)}', is like those below; {BY_HAND.header}"
    )


def words(name: str) -> set[str]:
    """Return the words that a column's name is made of."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))


def choose(found: Sequence[Column], names: Sequence[str]) -> Column | None:
    """Return the only column, or else the one whose name is the first of `names` that is there; None where that is open."""
    if len(found) == 1:
        return found[0]
    for name in names:
        exact = [column for column in found if column.name.lower() == name]
        if len(exact) == 1:
            return exact[0]
    within = [column for column in found if words(column.name) & set(names)]
    return within[0] if len(within) == 1 else None


def quoted(name: str) -> str:
    """Return a column's name as YAML reads it back."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in YAML_WORDS:
        return name
    return in_quotes(name)
