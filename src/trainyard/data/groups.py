"""Groups of samples that are never in two splits, such as the images of a patient: from their names, or from a table."""

from __future__ import annotations

import re
import signal
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import SPLITS
from trainyard.data.parallel import in_order
from trainyard.data.problems import Problem, printable
from trainyard.data.table_form import Findings, TableForm, shown
from trainyard.data.tables import check_columns, open_table, read_blocks

COLUMNS = ("path", "group")
LISTED = 8
PATHS_PER_PIECE = 200
MATCH_SECONDS = 0.1
"""Of a processor, for the paths of a piece. A pattern that repeats what it repeats takes years for one."""


def check_options(group: str | None, groups: str | None) -> None:
    """Refuse a pattern that is none, and two ways to name groups.

    Raises:
        ValueError: as a config's `__post_init__` does.
    """
    if group is None:
        return
    if groups is not None:
        raise ValueError("group and groups both name groups; keep the pattern or the table")
    try:
        found = re.compile(group).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"group {group!r} is no regular expression ({error}); correct it, such as '(patient[0-9]+)_'"
        ) from None
    if found != 1:
        raise ValueError(
            f"group {group!r} has {found} groups in parentheses; put parentheses around the part of a path that names the "
            "group, and (?:...) around others"
        )


def read_groups(
    places: Sequence[tuple[str, int]],
    *,
    group: str | None,
    groups: str | None,
    folder: Path,
    listed: Sequence[str],
    found: Findings,
) -> dict[str, str] | None:
    """Return the groups of files by their paths, or None where nothing names groups.

    Args:
        places: of each file, its path in the folder and its split: 0 train, 1 val, 2 test.
        group: pattern to look for in the path, whose parentheses hold the group.
        groups: a table in the folder with the columns path and group.
        folder: of the files. What the table names is looked up among those listed, and never opened.
        listed: all files that the table may name.
        found: of the raw data; files without a group, which are not in what is returned, and groups in two splits are added.
    """
    if group is not None:
        at, expected = "data.group", f"rename it so that {printable(group)} is found, or correct data.group"
        known = _match([path for path, _ in places], group, found)
    elif groups is not None:
        at, expected = groups, f"add a row with its path and its group to {groups}"
        known = _read_table(groups, folder, listed, found.problems)
    else:
        return None
    if known is None:
        return {}
    grouped = [(path, split) for path, split in places if path in known]
    if places and not grouped:
        said = f"gives a group to none of {len(places):,} images, such as {printable(places[0][0])}"
        found.add("no-group", said, "compare the two, and correct it", at=at)
        return {}
    for path, _ in places:
        if path not in known:
            problem = Problem(rule="no-group", where=path, found="has no group", expected=expected, sample=True)
            found.problems.append(problem)
    check_groups([known[path] for path, _ in grouped], [split for _, split in grouped], at, found)
    return {path: known[path] for path, _ in grouped}


def number_groups(groups: Sequence[str]) -> NDArray[np.int64]:
    """Return (N,) the number of each sample's group."""
    numbers = {name: number for number, name in enumerate(sorted(set(groups)))}
    return np.array([numbers[name] for name in groups], dtype=np.int64)


def check_groups(groups: Sequence[str], splits: Sequence[int], at: str, found: Findings) -> None:
    """Add the groups that stand in two splits of the source, and those that differ as typing errors do.

    Args:
        groups: of the samples.
        splits: of the samples: 0 train, 1 val, 2 test.
        at: the parameter, column or file that names the groups.
        found: of the raw data.
    """
    places: dict[str, set[int]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        places[group].add(split)
    if several := [group for group in places if len(places[group]) > 1]:
        named = [f"{printable(group)} ({', '.join(SPLITS[split] for split in sorted(places[group]))})" for group in several]
        expected = "what is tested on must be new: put each group into one split"
        found.add("group-in-two-splits", _some(named), expected, at=at)
    alike: dict[str, list[str]] = defaultdict(list)
    for group in places:
        alike[group.strip().casefold()].append(group)
    if twins := [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]:
        said, expected = f"{_some(twins)} differ in case or outer spaces only", "if they are one group, write it one way"
        found.add("like-groups", said, expected, at=at, severity="warning")


def leaves(path: str) -> bool:
    """Whether a path could lead out of the folder that it is relative to, on any system."""
    parts = re.split(r"[\\/]", path)
    return path.startswith(("/", "\\", "~")) or ".." in parts or re.match(r"[A-Za-z][\w+.-]*:", path) is not None


def _match(names: list[str], pattern: str, found: Findings) -> dict[str, str] | None:
    """Return the groups that a pattern finds, or None after adding that it takes for ever."""
    known: dict[str, str] = {}
    work = partial(_match_piece, names=names, pattern=re.compile(pattern), stopped=[])
    # In a process of its own in any case: only a process's first thread can be woken, and here that may be another one.
    for piece in in_order(work, range(0, len(names), PATHS_PER_PIECE), workers=2):
        if isinstance(piece, str):
            said = f"{printable(pattern)} takes for ever to look for in it"
            expected = "a data.group without repetitions of repetitions, such as (a+)+, or of choices, such as (a|a)+"
            found.problems.append(Problem(rule="slow-pattern", where=piece, found=said, expected=expected))
            return None
        known |= piece
    return known


def _match_piece(start: int, names: list[str], pattern: re.Pattern[str], stopped: list[str]) -> dict[str, str] | str:
    """Return the groups of some paths, or the path at which the time was up, after which this process looks no further."""
    found: dict[str, str] = {}
    name = ""
    if stopped:
        return stopped[0]
    # The search itself asks every few thousand steps for signals, and stops at what a handler raises.
    signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MATCH_SECONDS)
    try:
        for name in names[start : start + PATHS_PER_PIECE]:
            match = pattern.search(unicodedata.normalize("NFC", name))
            if match and match[1]:
                found[name] = match[1]
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except TimeoutError:
        stopped.append(name)
        return name
    return found


def _stop(*_: Any) -> None:
    raise TimeoutError


def _read_table(name: str, folder: Path, listed: Sequence[str], problems: list[Problem]) -> dict[str, str] | None:
    """Return the groups that a table names, or None after adding why it cannot be read."""
    found = Findings(name, problems)
    if leaves(name):
        found.add("outside", "leads out of data.path", "put the table into that folder", severity="refused")
        return None
    if not (folder / name).exists():
        found.add("no-file", "no such file", "put the table into the folder of data.path, or correct data.groups")
        return None
    table = open_table(folder, name, TableForm(), problems, COLUMNS)
    if table is None or not check_columns(table, COLUMNS):
        return None
    known = {unicodedata.normalize("NFC", path): path for path in listed}
    rows: dict[str, str] = {}
    for block in read_blocks(table, COLUMNS, ("path",)):
        for line, path, group in zip(block.lines, block.cells["path"], block.cells["group"], strict=True):
            _add_row(line, path.strip(), group.strip(), known, rows, table.found)
    return rows


def _add_row(line: int, path: str, group: str, known: dict[str, str], rows: dict[str, str], found: Findings) -> None:
    """Add the group of the file that a row names, or what is wrong with the row."""
    name = known.get(_plain(path)) or known.get(_plain(path.replace("\\", "/")))
    if name is None and path and leaves(path):
        said, expected = f"the path {shown(path)} leads out of the folder", "write it as it stands below data.path"
        found.row("path-leaves", line, said, expected, severity="refused")
    elif name is None:
        found.row(
            "unknown-path", line, f"no image {shown(path)}", "write the path as it stands below data.path, or delete the row"
        )
    elif not group:
        found.row("no-group", line, f"no group for {printable(name)}", "name its group")
    elif rows.setdefault(name, group) != group:
        said = f"group {shown(group)} for {printable(name)}, which has group {shown(rows[name])}"
        found.row("two-groups", line, said, "keep one row for each path")


def _plain(path: str) -> str:
    """Return a path without steps on the spot, in the form in which names are compared."""
    return unicodedata.normalize("NFC", str(PurePosixPath(path)))


def _some(named: Sequence[str]) -> str:
    return "; ".join(named[:LISTED]) + (f"; and {len(named) - LISTED:,} more" if len(named) > LISTED else "")
