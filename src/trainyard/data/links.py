"""Files that are read by their names: a link may lead to another file of the project, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from trainyard.data.problems import Problem


def leaves_project(path: Path, where: str, root: Path, folder: Path) -> Problem | None:
    """Return what is wrong with a file that is there under its name, or None; it is not opened.

    Args:
        path: of the file.
        where: its name in messages.
        root: of the project.
        folder: of the data, which may itself be a link.
    """
    target = path.resolve()
    if target.is_file() and any(target.is_relative_to(inside.resolve()) for inside in (root, folder)):
        return None
    rule, found = ("link-leaves", f"a link to {target}") if target.is_file() else ("not-a-file", "no regular file")
    return Problem(rule=rule, where=where, found=found, expected="a file of the project: copy it there", severity="refused")
