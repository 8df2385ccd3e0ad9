"""Files that are read by their names: a link may lead to another file of the project or of DVC's cache, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

from trainyard.data.problems import Problem

IN_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""How the place of a file in a cache of DVC ends: in the hash of what it holds. With `cache.type symlink`, DVC links to it."""


def leads_out(target: Path, *inside: Path) -> bool:
    """Return whether what a link leads to lies in none of some folders, and is nothing that DVC keeps by its hash."""
    if any(target.is_relative_to(folder) for folder in inside):
        return False
    return IN_CACHE.search(str(target)) is None


def leaves_project(path: Path, where: str, root: Path, folder: Path) -> Problem | None:
    """Return what is wrong with a file that is there under its name, or None; it is not opened.

    Args:
        path: of the file.
        where: its name in messages.
        root: of the project.
        folder: of the data, which may itself be a link.
    """
    target = path.resolve()
    if target.is_file() and not leads_out(target, root.resolve(), folder.resolve()):
        return None
    rule, found = ("link-leaves", f"a link to {target}") if target.is_file() else ("not-a-file", "no regular file")
    return Problem(rule=rule, where=where, found=found, expected="a file of the project: copy it there", severity="refused")
