"""What differs from the commit that is checked out, as a patch that `git apply` takes: without secrets, and of bounded size."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainyard.masking import mask
from trainyard.provenance import git, of_a_person

PATCH_BYTES = 2**20
"""Most that a patch holds; what does not fit is named at its head."""
FILE_BYTES = 2**17
"""A file that git does not know is taken into a patch up to this size: code, but no data."""
MOST_FILES = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between a commit and the files as they are."""

    text: str
    """The patch; empty where there is none."""
    left_out: tuple[str, ...] = ()
    """Files of which it does not say how they are."""
    masked: bool = False
    """Whether secrets were taken out, so that it does not bring back what was there."""

    @property
    def whole(self) -> bool:
        """Whether the commit and the patch together are what was there."""
        return not self.left_out and not self.masked

    def as_file(self) -> bytes:
        """Return the patch with what it lacks at its head, where git passes over it."""
        lines = []
        if self.masked:
            lines.append("# Secrets were taken out of it: it does not bring back all that was there.")
        lines += [f"# Left out, as too large or no text: {name}" for name in self.left_out]
        head = "".join(f"{line}\n" for line in lines)
        return f"{head}{self.text}".encode()


NONE = Changes("")


def changes(folder: Path, commit: str) -> Changes:
    """Return how the files of a project differ from a commit, new ones that git does not ignore included.

    Nothing in the project or in its repository is written to.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-index-") as place:
        found = git(folder, "rev-parse", "--git-path", "index", "--git-path", "objects")
        if found is None:
            return NONE
        index, objects = (folder / name for name in found.decode().splitlines())
        (Path(place) / "objects").mkdir()
        environment = {
            **os.environ,
            "GIT_INDEX_FILE": str(Path(place) / "index"),
            # Where git puts the empty file that it takes a new one for until its content is added.
            "GIT_OBJECT_DIRECTORY": str(Path(place) / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects.resolve()),
        }
        if index.is_file():
            shutil.copyfile(index, environment["GIT_INDEX_FILE"])
        new, large = _new_files(folder)
        if new:
            # Only their names, in the copy of the index: a diff then shows them whole.
            git(folder, "add", "--intent-to-add", "--", *new, environment=environment)
        options = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
        text = git(folder, "diff", *options, commit, "--", *of_a_person(), environment=environment)
    return _bounded((text or b"").decode(errors="replace"), large)


def _new_files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files that git neither knows nor ignores: those that a patch takes, and the others."""
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *of_a_person())
    names = sorted(filter(None, (listed or b"").decode(errors="surrogateescape").split("\0")))
    small = [name for name in names if (folder / name).is_file() and (folder / name).stat().st_size <= FILE_BYTES]
    taken = small[:MOST_FILES]
    return taken, [name for name in names if name not in set(taken)]


def _bounded(text: str, left_out: list[str]) -> Changes:
    parts = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    kept, size, masked = [], 0, False
    for part in filter(None, parts):
        shown = mask(part)
        length = len(shown.encode())
        if size + length > PATCH_BYTES or re.search(r"^(Binary files .* differ|GIT binary patch)$", part, re.MULTILINE):
            left_out = [*left_out, _name(part)]
            continue
        masked = masked or shown != part
        kept.append(shown)
        size += length
    if len(left_out) > MOST_FILES:
        left_out = [*left_out[:MOST_FILES], f"and {len(left_out) - MOST_FILES} more"]
    return Changes("".join(kept), tuple(left_out), masked)


def _name(part: str) -> str:
    """Return the file that a part of a patch is about."""
    found = re.match(r'diff --git "?a/(.*?)"? "?b/', part)
    return found[1] if found else "a file"
