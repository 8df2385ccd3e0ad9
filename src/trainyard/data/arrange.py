"""Files of an unpacked data set moved into folders of their split, as lists in it say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from trainyard.data.descriptor import Arrangement, check_inside
from trainyard.data.problems import DataError, Problem

LONGEST_LIST = 200 * 2**20
"""Bytes of a list of names."""


def arrange(name: str, folder: Path, arrangement: Arrangement) -> None:
    """Move what the lists name to <into>/<split>/<folder>/<name><suffix>, and leave the rest where it is.

    Args:
        name: of the data set.
        folder: of its unpacked files.
        arrangement: which lists, and where the files of a name are.

    Raises:
        DataError: listing names that have no file, leave the folder, or stand in two lists.
    """
    problems: list[Problem] = []
    moves: dict[Path, Path] = {}
    for split, path in arrangement.lists.items():
        for line, entry in _names(folder, path, problems):
            for side, pattern in arrangement.files.items():
                where = folder / pattern.replace("{name}", entry)
                suffix = pattern.rpartition("{name}")[2]
                goes = folder / arrangement.into / split / side / f"{entry}{suffix}"
                if where in moves:
                    found = f"{entry}, which another line has"
                    problems.append(_problem("listed-twice", f"{path}:{line}", found, "each name in one list, once"))
                elif not where.is_file():
                    found = f"{entry}, but there is no {where.relative_to(folder)}"
                    problems.append(_problem("no-file", f"{path}:{line}", found, "mend `arrange` in the descriptor"))
                else:
                    moves[where] = goes
    if problems:
        raise DataError(name, problems)
    for where, goes in moves.items():
        goes.parent.mkdir(parents=True, exist_ok=True)
        os.rename(where, goes)


def _names(folder: Path, path: str, problems: list[Problem]) -> list[tuple[int, str]]:
    """Return the names of a list with their lines."""
    file = folder / path
    if not file.is_file() or file.stat().st_size > LONGEST_LIST:
        problems.append(_problem("no-list", path, "no such list among the files", "mend `arrange.lists` in the descriptor"))
        return []
    names = []
    for line, text in enumerate(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        name = re.split(r"\s", text.strip(), maxsplit=1)[0]
        try:
            check_inside("name", name)
            names.append((line, name))
        except ValueError:
            expected = "names below the folder of the data set"
            problems.append(_problem("outside", f"{path}:{line}", name, expected, severity="refused"))
    return names


def _problem(rule: str, where: str, found: str, expected: str, severity: Literal["error", "refused"] = "error") -> Problem:
    return Problem(rule=rule, where=where, found=found, expected=expected, severity=severity)
