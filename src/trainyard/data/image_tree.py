"""Image files below a folder: which to read, in the order of their paths, and what else lies there.

Links are followed within the project and within the folder; others are refused unread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainyard.data.links import leads_out
from trainyard.data.problems import Problem

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
UNREADABLE = {
    ".heic",
    ".heif",
    ".avif",
    ".psd",
    ".svg",
    ".fits",
    ".fit",
    ".jp2",
    ".pgm",
    ".ppm",
    ".pbm",
    ".tga",
    ".dcm",
    ".ico",
}
"""Of images in formats that are not read."""
FileState = tuple[int, int]
"""Size in bytes, and time of the last change in nanoseconds: another state is another file."""
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
"""What Windows, macOS, network storage (small copies of all images) and file systems put beside the data."""


@dataclass(slots=True)
class Tree:
    """What lies below a folder. Paths are relative to it, with slashes."""

    files: list[str] = field(default_factory=list)
    """Of images, in the order of their bytes. As text: making a path takes longer than all else that is done for a file."""
    states: dict[str, FileState] = field(default_factory=dict)
    """Of the files, as the listing found them."""
    folders: list[PurePosixPath] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def walk(folder: Path, root: Path, known: str | None = None) -> Tree:
    """Return what lies below a folder; hidden files are passed over.

    Args:
        folder: with the images.
        root: the project's folder; a link may lead anywhere in it, anywhere in `folder`, and to a file of DVC's cache.
        known: path of a file in the folder that is passed over too.
    """
    tree = Tree()
    inside = (root.resolve(), folder.resolve())
    strays: dict[PurePosixPath, Counter[str]] = {}
    waiting = [(PurePosixPath(), frozenset({folder.resolve()}))]
    while waiting:
        relative, above = waiting.pop()
        prefix = f"{relative}/" if relative.parts else ""
        for entry in _entries(folder, relative, tree.problems):
            text = f"{prefix}{entry.name}"
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER or text == known:
                continue
            problem = _link_problem(entry, relative / entry.name, inside, above) if entry.is_symlink() else None
            if problem is not None:
                tree.problems.append(problem)
                continue
            try:
                status = entry.stat()
            except OSError as error:
                tree.problems.append(_unseen(relative, entry.name, error))
                if error.errno == errno.EACCES:
                    # Of all else in this folder the same would be said.
                    break
                continue
            if stat.S_ISDIR(status.st_mode):
                tree.folders.append(relative / entry.name)
                waiting.append((relative / entry.name, above | {Path(entry.path).resolve()}))
            elif (suffix := _suffix(entry.name)) in SUFFIXES and stat.S_ISREG(status.st_mode):
                tree.files.append(text)
                tree.states[text] = status.st_size, status.st_mtime_ns
            elif (problem := _foreign(relative / entry.name, suffix, status.st_mode)) is not None:
                tree.problems.append(problem)
            else:
                strays.setdefault(relative, Counter())[suffix or "no suffix"] += 1
    tree.files.sort(key=os.fsencode)
    tree.folders.sort(key=os.fsencode)
    tree.problems += [_stray(where, counts) for where, counts in sorted(strays.items(), key=lambda item: os.fsencode(item[0]))]
    return tree


def _link_problem(
    entry: os.DirEntry[str], path: PurePosixPath, inside: tuple[Path, Path], above: frozenset[Path]
) -> Problem | None:
    try:
        target = Path(entry.path).resolve(strict=True)
    except FileNotFoundError:
        return _problem("dangling-link", path, "a link to a file that is not there", "restore the file, or delete the link")
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            found = f"a link that cannot be followed: {error.strerror}"
            return _problem("unreadable-image", path, found, "make what it leads to readable for this user")
        return _problem("link-loop", path, "a link that leads back to itself", "delete the link")
    if leads_out(target, *inside):
        return _problem(
            "link-leaves", path, f"a link to {target}", "links must stay in the project: copy the file", refused=True
        )
    if target in above:
        return _problem("link-loop", path, "a link to a folder that it lies in", "delete the link")
    return None


def _entries(folder: Path, relative: PurePosixPath, problems: list[Problem]) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder / relative))
    except OSError as error:
        found = f"a folder that cannot be opened: {error.strerror}"
        problems.append(_problem("unreadable-folder", relative, found, "make it readable for this user"))
        return []


def _suffix(name: str) -> str:
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if stem and dot else ""


def _foreign(path: PurePosixPath, suffix: str, mode: int) -> Problem | None:
    """Return what is wrong with a file that is not read, or None where it is merely no image."""
    if not stat.S_ISREG(mode):
        return _problem("not-a-file", path, "a pipe, socket or device", "take it out", refused=True)
    if suffix in UNREADABLE:
        return _problem("unknown-format", path, f"a {path.suffix} file", "save it as PNG, JPEG or TIFF")
    return None


def _unseen(folder: PurePosixPath, name: str, error: OSError) -> Problem:
    """Return what is wrong where the system says nothing of an entry that it has listed."""
    if error.errno == errno.EACCES:
        return _problem("unreadable-folder", folder, f"a folder that cannot be entered: {error.strerror}", "chmod +x it")
    found = "was listed, and then gone" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"
    return Problem(
        rule="changed-while-read", where=str(folder / name), found=found, expected="run it again when nothing writes there"
    )


def _problem(rule: str, path: PurePosixPath, found: str, expected: str, refused: bool = False) -> Problem:
    return Problem(
        rule=rule,
        where=str(path),
        found=found,
        expected=expected,
        severity="refused" if refused else "error",
        sample=not refused,
    )


def _stray(where: PurePosixPath, counts: Counter[str]) -> Problem:
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))
    return Problem(
        rule="stray-files",
        where=str(where),
        found=f"files that are no images by their names: {listed}",
        expected="they are left out",
        severity="warning",
    )
