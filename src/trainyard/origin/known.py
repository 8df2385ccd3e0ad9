"""All that DVC has recorded of a project's stages: dvc.lock, and the run-cache, which keeps what dvc.lock has forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.dvc_cache import cache_folder, place_of
from trainyard.dvc_lock import read_lock
from trainyard.inputs import read_mapping
from trainyard.provenance import file_md5

FOLDER_SUFFIX = ".dir"


@dataclass(frozen=True, slots=True)
class Entry:
    """One execution of a stage."""

    stage: str
    """prepare, train, evaluate, gate or export."""
    recipe: str
    values: dict[str, Any]
    """cmd, deps, params and outs, as dvc.lock has them."""
    current: bool
    """Whether it is the one in dvc.lock."""

    def outs(self) -> dict[str, str]:
        """Return the md5 of each output by its path."""
        return _hashes(self.values.get("outs"))

    def deps(self) -> dict[str, str]:
        """Return the md5 of each input by its path."""
        return _hashes(self.values.get("deps"))


class Known:
    """A project's stages, as DVC knows them."""

    def __init__(self, root: Path) -> None:
        """Read dvc.lock.

        Raises:
            IntegrityError: it is damaged.
        """
        self.root = root
        self.current = [_entry(name, values, True) for name, values in read_lock(root).items()]
        self.cache = cache_folder(root)

    def former(self) -> Iterator[Entry]:
        """Yield what the run-cache has, the newest first."""
        stages = {values["cmd"]: entry for entry in self.current if (values := entry.values).get("cmd")}
        paths = [path for path in (self.cache / "runs").glob("*/*/*") if path.is_file() and ".tmp" not in path.name]
        for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
            values = read_mapping(path)
            command = str(values.get("cmd", ""))
            known = stages.get(command)
            stage, recipe = (known.stage, known.recipe) if known else _of_command(command)
            if stage:
                yield Entry(stage, recipe, values, False)

    def made(self, md5: str) -> Iterator[tuple[Entry, str]]:
        """Yield who made a content, and as which path, those of dvc.lock first; files in folders are found, too."""
        entries = [*self.current, *self.former()]
        for entry in entries:
            yield from ((entry, path) for path, found in entry.outs().items() if found == md5)
        seen: dict[str, dict[str, str]] = {}
        for entry in entries:
            for path, found in entry.outs().items():
                if found.endswith(FOLDER_SUFFIX):
                    if found not in seen:
                        seen[found] = self.files_of(found)
                    yield from ((entry, f"{path}/{name}") for name, inner in seen[found].items() if inner == md5)

    def at(self, path: str) -> tuple[Entry, str] | None:
        """Return whose output a path of the project is, and the output that it lies in."""
        for entry in self.current:
            for out in entry.outs():
                if path == out or path.startswith(f"{out}/"):
                    return entry, out
        return None

    def files_of(self, md5: str) -> dict[str, str]:
        """Return the md5 of each file of a folder, by its path in there; nothing where the cache has it no longer."""
        try:
            return {file["relpath"]: file["md5"] for file in json.loads(place_of(self.cache, md5).read_bytes())}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def content(self, path: str, md5: str) -> bytes | None:
        """Return a small file by its hash, from the project where it has it, else from the cache."""
        for place in (self.root / path, place_of(self.cache, md5)):
            if place.is_file() and file_md5(place) == md5:
                return place.read_bytes()
        return None


def folder_md5(folder: Path, root: Path) -> str:
    """Return the hash by which DVC knows a folder of the project at `root`, without what .dvcignore leaves out."""
    ignored = _ignored(root)
    every = (path for path in folder.rglob("*") if path.is_file())
    files = sorted((path.relative_to(folder).parts, path) for path in every if not ignored(path))
    listed = [{"md5": file_md5(path), "relpath": "/".join(parts)} for parts, path in files]
    digest = hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False)
    return f"{digest.hexdigest()}{FOLDER_SUFFIX}"


def _ignored(root: Path) -> Callable[[Path], bool]:
    from pathspec import GitIgnoreSpec

    rules = root / ".dvcignore"
    spec = GitIgnoreSpec.from_lines(rules.read_text(encoding="utf-8").splitlines() if rules.is_file() else ())
    return lambda path: path.is_relative_to(root) and spec.match_file(path.relative_to(root))


def _hashes(files: Any) -> dict[str, str]:
    return {str(file["path"]): str(file["md5"]) for file in files or [] if "md5" in file}


def _entry(name: str, values: dict[str, Any], current: bool) -> Entry:
    stage, _, recipe = name.partition("@")
    return Entry(stage, recipe, values, current)


def _of_command(command: str) -> tuple[str, str]:
    """Return stage and recipe of a command of ours whose stage dvc.lock does not have any more."""
    words = command.split()
    for number, word in enumerate(words[:-1]):
        if word.startswith("pipeline/") and word.endswith(".py"):
            return Path(word).stem, words[number + 1]
    return "", ""
