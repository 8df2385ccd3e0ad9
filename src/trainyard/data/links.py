"""Files that are read by their names, which may be away, or links.

A link may lead to another file of the project or of DVC's cache, and nowhere else.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from trainyard.data.problems import Problem

IN_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""How the place of a file in a cache of DVC ends: in the hash of what it holds. With `cache.type symlink`, DVC links to it."""


def absent(root: Path, path: str, kind: str = "file or folder") -> tuple[str, str] | None:
    """Return what a message says of a path where nothing is, and how to bring it there; None where there is something."""
    if _exists(root / path):
        return None
    found = "a link to what is not there" if os.path.lexists(root / path) else f"no such {kind}"
    kept = next((f"{part}.dvc" for part in (Path(path), *Path(path).parents) if os.path.isfile(root / f"{part}.dvc")), None)
    what = "data" if kind != "file" else "file"
    return found, f"DVC keeps the {what}: dvc checkout {kept}, or dvc pull {kept}" if kept else f"put the {what} there"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


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
