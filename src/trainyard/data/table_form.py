"""How a table is written, what a reader hands on of it, and what it found wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trainyard.data.problems import Problem, Severity

Encoding = Literal[
    "auto",
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "latin-1",
    "iso8859-15",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1253",
    "cp1254",
    "koi8-r",
    "shift_jis",
    "euc-jp",
    "euc-kr",
    "gb18030",
    "big5",
]
"""auto: UTF-16 where its byte order mark stands at the start, else UTF-8."""
Delimiter = Literal["auto", ",", ";", "tab", "|"]
"""What stands between the fields of a row. auto: the one that cuts the first rows alike."""
KEPT = 1000
"""Problems of one rule in one file that are kept; the rest is counted."""
BLOCK_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What can be done about a file that does not say how it is written: other words where there is no recipe to say it."""

    header: str
    """Of a file without one."""
    columns: str
    """What says how many columns there are, of a file without a header."""
    encoding: str
    """Of a file that is not UTF-8."""
    unmarked: str
    """Of UTF-16 without its byte order mark."""
    quotes: str = ""
    """Of quotes that do not close, beside closing them."""


IN_THE_RECIPE = Advice(
    header="name its columns in data.columns",
    columns="data.columns names",
    encoding="save the file as UTF-8, or name its encoding, such as data.encoding: cp1252",
    unmarked="name the order of its bytes: data.encoding: utf-16-le or utf-16-be",
    quotes=" (or set data.quotes: false, where quotes are plain characters)",
)
IN_THE_FILE = Advice(
    header="write the names of the columns above its rows",
    columns="the tables of the training have",
    encoding="save the file as UTF-8",
    unmarked="save it as UTF-8",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """What a file does not say of itself."""

    columns: tuple[str, ...] | None = None
    """Names of all columns in their order, for a file without a header."""
    encoding: Encoding = "auto"
    delimiter: Delimiter = "auto"
    quotes: bool = True
    """false: a quote is a character like any other, as in many TSV files."""
    advice: Advice = IN_THE_FILE
    """What messages say to do, where the file is written in another way."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, of which `form_from_json` makes a form for files like these."""
        return {name: getattr(self, name) for name in SAID}


SAID = ("columns", "encoding", "delimiter", "quotes")
"""Fields of a form that say how a file is written."""


def form_from_json(values: dict[str, Any]) -> TableForm:
    """Return the form that `to_json` of one wrote.

    Raises:
        ValueError, TypeError: it is none.
    """
    names = values.get("columns")
    form = TableForm(**{**{name: values[name] for name in SAID if name in values}, "columns": names and tuple(names)})
    good = form.encoding in get_args(Encoding) and form.delimiter in get_args(Delimiter) and type(form.quotes) is bool
    if not good or not all(isinstance(name, str) for name in form.columns or ()):
        raise ValueError(f"{values} says nothing about how a table is written")
    return form


class Number(str):
    """A cell of which the file itself says that it is a number, written with a decimal point; no conversion has changed it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some rows of the columns that were asked for."""

    cells: dict[str, list[str]]
    lines: list[int]
    """Line of the file on which each row begins, from 1; number of the row for Parquet."""


class Findings:
    """Problems of one file, few of each rule however many rows have it."""

    def __init__(self, name: str, problems: list[Problem], advice: Advice = IN_THE_FILE) -> None:
        self.name = name
        self.problems = problems
        self.advice = advice
        self.counts: Counter[str] = Counter()

    def add(self, rule: str, found: str, expected: str, *, at: object = None, severity: Severity = "error") -> None:
        """Add what concerns the whole file, or the place in it that `at` names."""
        where = self.name if at is None else f"{self.name}:{at}"
        self.problems.append(Problem(rule=rule, where=where, found=found, expected=expected, severity=severity))

    def row(self, rule: str, line: int, found: str, expected: str, *, severity: Severity = "error") -> None:
        """Add what concerns one row, which can be left out."""
        self.counts[rule] += 1
        if self.counts[rule] <= KEPT:
            where = f"{self.name}:{line}"
            bad = severity == "error"
            self.problems.append(Problem(rule=rule, where=where, found=found, expected=expected, severity=severity, sample=bad))

    def close(self) -> None:
        """Say how many problems were not kept."""
        for rule, count in self.counts.items():
            if count > KEPT:
                found, expected = f"{count - KEPT:,} rows more with the same problem ({rule})", "see the rows before"
                more = Problem(rule=rule, where=self.name, found=found, expected=expected, sample=True, count=count - KEPT)
                self.problems.append(more)
        self.counts.clear()


@dataclass(slots=True, kw_only=True)
class OpenTable:
    """A file whose columns are known, and whose rows can be read."""

    name: str
    """Of the file, as messages say it."""
    found: Findings
    """What is wrong with it is added to this."""
    columns: tuple[str, ...]
    about: str
    """How it is written: delimiter and encoding, or format."""
    blocks: Callable[[Sequence[str], Collection[str]], Iterator[Block]]
    """Read the rows: columns to return, and which of them must hold texts, where the format tells texts from numbers."""
    not_plain: frozenset[str] = frozenset()
    """Columns of lists, objects and the like, and those that many of the first rows lack."""


def shown(cell: str, length: int = 60) -> str:
    """Return a cell in quotes, cut where it is long."""
    return repr(cell if len(cell) <= length else cell[: length - 3] + "...")
