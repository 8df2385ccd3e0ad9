"""What a model is asked about in bulk: files and rows of tables, one after the other, never all at once."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.data.image_files import MAX_BYTES
from trainyard.data.image_tree import SUFFIXES as IMAGE_SUFFIXES
from trainyard.data.problems import Problem, printable
from trainyard.data.raw_form import ImageForm, SeriesForm, TextForm
from trainyard.data.series_csv import read_number
from trainyard.data.series_time import following, grid, other_step, read_times
from trainyard.data.table_form import Block
from trainyard.data.tables import SUFFIXES as TABLE_SUFFIXES
from trainyard.data.tables import check_columns, read_blocks
from trainyard.errors import InputError
from trainyard.serving.asked_tables import open_asked
from trainyard.serving.model_file import Signature
from trainyard.serving.own_files import is_own_masks, is_own_table
from trainyard.serving.raw_inputs import Raw

CONTEXTS_KEPT = 2
"""Of a series' latest rows, in contexts: what is missing at the beginning of one is filled in from before it."""
NO_FILE = "is no regular file; take it out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to ask about, or what is wrong with it."""

    name: str
    """A path, or `file:row`."""
    raw: Raw | None = None
    problem: str = ""
    count: int = 1
    """How many things it stands for, where it says how many more have a problem."""
    series: str = ""
    """Which of a file's series it is."""
    times: tuple[str, ...] = ()
    """When each step of the forecast is, where the file says when its rows are."""
    places: tuple[str, ...] = ()
    """Of the rows of a series, as `file:line`; empty for rows that the file leaves out."""


@dataclass(slots=True)
class _Series:
    """The latest rows of one series."""

    values: deque[list[float]]
    times: deque[str]
    lines: deque[int]


def listed(paths: Sequence[Path], signature: Signature) -> Iterator[Path]:
    """Yield the files that paths name, those of a folder in the order of their names.

    Hidden ones are passed over, and those that predictions were written into.

    Raises:
        InputError: a path is not there.
    """
    for path in paths:
        if path.is_dir():
            yield from _below(path, _suffixes(signature))
        elif path.exists():
            yield path
        else:
            raise InputError(f"{path}: no such file or folder; name files to predict, or folders of them")


def check_apart(out: Path, paths: Sequence[Path], signature: Signature) -> None:
    """Refuse to write over a file that is to be read.

    Raises:
        InputError: `out` is such a file.
    """
    if not out.is_file():
        return
    for path in paths:
        if path.is_file() and path.samefile(out):
            raise InputError(f"--out {out}: is one of the files to answer to; name another file")
        real, folder = out.resolve(), path.resolve()
        read = real.suffix.lower() in _suffixes(signature) and not is_own_table(real)
        if path.is_dir() and real.is_relative_to(folder) and read:
            raise InputError(
                f"--out {out}: is there already, in {path}, where it would be read as one of the files to answer to; "
                "name a file outside of that folder, or delete this one"
            )


def _suffixes(signature: Signature) -> set[str]:
    """Return the endings of the files that are taken of a folder."""
    return IMAGE_SUFFIXES if isinstance(signature.form, ImageForm) else set(TABLE_SUFFIXES)


def items(paths: Sequence[Path], signature: Signature) -> Iterator[Item]:
    """Yield what is to be asked about; a file or a row that cannot be read is one with a problem.

    Raises:
        InputError: a path is not there.
    """
    for path in listed(paths, signature):
        if not path.is_file():
            yield Item(name=printable(str(path)), problem=NO_FILE)
            continue
        match signature.form:
            case ImageForm():
                yield _image(path)
            case TextForm() as form:
                yield from _texts(path, signature, form)
            case SeriesForm() as form:
                yield from _series(path, signature, form)


def _below(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_own_masks(Path(parent, name)))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes and not is_own_table(path):
                yield path


def _image(path: Path) -> Item:
    name = printable(str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            return Item(name=name, problem=f"{path.stat().st_size:,} bytes; use images of at most {MAX_BYTES:,} bytes")
        return Item(name=name, raw=path.read_bytes())
    except OSError as error:
        return Item(name=name, problem=f"cannot be opened: {error.strerror or error}; make it readable")


def _told(path: Path, problems: list[Problem]) -> Iterator[Item]:
    """Yield what is wrong with a file and its rows, and forget it."""
    for problem in problems:
        if problem.severity != "warning":
            place = problem.where.removeprefix(path.resolve().name)
            said = f"{printable(problem.found)}; {problem.expected}"
            yield Item(name=printable(f"{path}{place}"), problem=said, count=problem.count)
    problems.clear()


def _texts(path: Path, signature: Signature, form: TextForm) -> Iterator[Item]:
    problems: list[Problem] = []
    table = open_asked(path, signature.table, form.columns, form.columns, problems)
    if table is not None and check_columns(table, form.columns):
        for block in read_blocks(table, form.columns, form.columns):
            columns = [block.cells[name] for name in form.columns]
            for line, *cells in zip(block.lines, *columns, strict=True):
                yield Item(name=printable(f"{path}:{line}"), raw=dict(zip(form.columns, map(str, cells), strict=True)))
            yield from _told(path, problems)
    yield from _told(path, problems)


def _series(path: Path, signature: Signature, form: SeriesForm) -> Iterator[Item]:
    """Yield the end of each series of a table, in the order in which they begin."""
    problems: list[Problem] = []
    wanted = (*signature.columns, *([form.series] if form.series else []))
    table = open_asked(path, signature.table, wanted, (*wanted, form.time), problems)
    if table is None or not check_columns(table, wanted):
        yield from _told(path, problems)
        return
    timed = form.time in table.columns
    every: dict[str, _Series] = {}
    spoilt: set[str] = set()
    for block in read_blocks(table, (*wanted, *([form.time] if timed else []))):
        yield from _told(path, problems)
        for name, item in _add(block, every, signature, form, timed, path):
            if name not in spoilt:
                spoilt.add(name)
                yield item
    # A row that could not be read may have been of any series.
    broken = any(problem.sample for problem in problems)
    yield from _told(path, problems)
    for name, series in every.items():
        if name in spoilt:
            continue
        if form.series and not name.strip() and len(every) > 1:
            said = f"nothing in column {form.series}; name the series of each row, or delete the row"
            yield Item(name=printable(f"{path}:{series.lines[0]}"), series=name, problem=said)
            continue
        if broken:
            yield Item(name=_of(path, name), series=name, problem="a row of the file could not be read; mend it first")
            continue
        yield _end(series, name, signature, form, timed, path)


def _of(path: Path, series: str) -> str:
    return printable(f"{path}:{series}" if series else str(path))


def _add(
    block: Block, every: dict[str, _Series], signature: Signature, form: SeriesForm, timed: bool, path: Path
) -> Iterator[tuple[str, Item]]:
    """Add rows to their series; yield the name of a series and what is wrong where a cell is no number."""
    columns = [block.cells[name] for name in signature.columns]
    names = block.cells[form.series] if form.series else [""] * len(block.lines)
    times = block.cells[form.time] if timed else [""] * len(block.lines)
    kept = CONTEXTS_KEPT * signature.context_length
    for line, name, time, *cells in zip(block.lines, names, times, *columns, strict=True):
        series = every.get(name)
        if series is None:
            series = every[name] = _Series(deque(maxlen=kept), deque(maxlen=kept), deque(maxlen=kept))
        row = [_number(cell, form.decimal) for cell in cells]
        for column, cell, number in zip(signature.columns, cells, row, strict=True):
            if number is None:
                found = f"column {column} holds {cell[:60]!r}; expected a finite number with a decimal sign of {form.decimal!r}"
                yield name, Item(name=printable(f"{path}:{line}"), series=name, problem=printable(found))
        series.values.append([number if number is not None else np.nan for number in row])
        series.times.append(time)
        series.lines.append(line)


def _number(cell: str, decimal: str) -> float | None:
    """Return the number in a cell, NaN where it is missing, None where the cell holds no finite number."""
    number = read_number(cell, decimal)
    return None if number is None or math.isinf(number) else number


def _end(series: _Series, name: str, signature: Signature, form: SeriesForm, timed: bool, path: Path) -> Item:
    """Return the latest rows of a series, with rows that were left out as missing ones."""
    values = np.array(series.values)
    rows = tuple(printable(f"{path}:{line}") for line in series.lines)
    if not timed:
        return Item(name=_of(path, name), series=name, raw=values, places=rows)
    problems: list[Problem] = []
    lines = np.array(series.lines)
    clock = read_times(list(series.times), lines.tolist(), str(path), problems)
    places, step = grid(clock.times, lines, str(path), clock.form, form.missing == "interpolate", problems)
    found = [problem for problem in problems if problem.severity != "warning"]
    if found:
        problem = printable(f"{found[0].found}; {found[0].expected}")
        return Item(name=printable(found[0].where), series=name, problem=problem)
    if said := other_step(step, form.step):
        return Item(name=_of(path, name), series=name, problem=said)
    filled = np.full((places[-1] + 1, values.shape[1]), np.nan)
    filled[places] = values
    known = dict(zip(places.tolist(), rows, strict=True))
    times = tuple(moment.isoformat(" ") for moment in following(clock.times, step, signature.horizon))
    every = tuple(known.get(place, "") for place in range(len(filled)))
    return Item(name=_of(path, name), series=name, raw=filled, times=times, places=every)
