"""Caches: what this node has fetched of packed data and weights, and what DVC keeps that nothing refers to."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from trainyard.clean.things import Thing, age_of, size_of
from trainyard.dvc_cache import cache_folder, place_of
from trainyard.dvc_processes import at_work
from trainyard.dvc_stages import has_repository, without_git
from trainyard.errors import MachineError, last_line
from trainyard.origin.known import FOLDER_SUFFIX, Known
from trainyard.training.node_cache import cache_folder as node_folder
from trainyard.training.node_cache import drop

MD5 = re.compile(r"\b[0-9a-f]{32}(?:\.dir)?\b")


def node_cache(needed: set[str], older: float) -> Iterator[Thing]:
    """Yield what this node has fetched for trainings.

    Args:
        needed: hashes of what recipes are about now.
        older: seconds since its last use.
    """
    for lock in sorted(node_folder().glob("*.lock")):
        folders = [path for path in (lock.with_suffix(""), lock.with_suffix(".part")) if path.is_dir()]
        if not folders:
            continue
        age = max(0.0, time.time() - lock.stat().st_mtime)
        stays = "a recipe's data" if lock.stem in needed else "used a short while ago" if age < older else ""
        yield Thing(
            kind="node cache",
            name=lock.stem[:16],
            bytes=sum(map(size_of, folders)),
            age_seconds=age,
            why=stays or "fetched again when it is needed",
            remove=None if stays else partial(_drop, lock),
        )


def dvc_cache(root: Path, champions: set[str], older: float) -> Iterator[Thing]:
    """Yield what DVC's cache holds and nothing refers to: no dvc.lock or *.dvc file, here, in another worktree of git or in a
    commit, and no champion.

    Args:
        root: the project.
        champions: fingerprints.
        older: seconds since it was written.
    """
    cache = cache_folder(root)
    store = cache / "files" / "md5"
    if not store.is_dir():
        return
    held = next((f"at work here: {process}" for process in at_work(root)), "")
    if not cache.resolve().is_relative_to(root.resolve()):
        held = "shared with other projects, whose files nobody here knows"
    kept = set() if held else referred(root, champions)
    unused = [] if held else [path for path in store.glob("??/*") if path.parent.name + path.name not in kept]
    if held:
        yield Thing(kind="DVC cache", name=str(cache), bytes=size_of(store), age_seconds=age_of(store), why=held)
        return
    old = [path for path in unused if time.time() - path.stat().st_mtime >= older]
    for paths, why in (
        (old, "in no dvc.lock or *.dvc file of a working tree or a commit, and of no champion"),
        ([path for path in unused if path not in set(old)], "written a short while ago"),
    ):
        if paths:
            remove = partial(_delete, root, paths) if paths is old else None
            age = min(time.time() - path.stat().st_mtime for path in paths)
            name, size = f"{len(paths):,} files", sum(path.stat().st_size for path in paths)
            yield Thing(kind="DVC cache", name=name, bytes=size, age_seconds=age, why=why, remove=remove)


def referred(root: Path, champions: set[str]) -> set[str]:
    """Return the hashes in DVC's cache that something refers to."""
    texts = [*_working_texts(root)]
    # Told to do without git, and in no repository, a project has no commits.
    if has_repository(root) or not without_git(root):
        texts += [text for folder in _other_worktrees(root) for text in _working_texts(folder)]
        texts += _committed_texts(root)
    found = {md5 for text in texts for md5 in MD5.findall(text)}
    known = Known(root)
    for entry in known.former():
        # A champion's files may be in no lock any more, where it was promoted and dvc.lock was never committed.
        if any(fingerprint in champions for fingerprint in _fingerprints(known, entry.outs() | entry.deps())):
            found |= {*entry.outs().values(), *entry.deps().values()}
    for md5 in [md5 for md5 in found if md5.endswith(FOLDER_SUFFIX)]:
        found |= set(known.files_of(md5).values())
    return found


def _fingerprints(known: Known, files: dict[str, str]) -> Iterator[str]:
    for path, md5 in files.items():
        place = place_of(known.cache, md5)
        if Path(path).name in ("recipe.json", "run.json") and place.is_file():
            try:
                yield str(json.loads(place.read_bytes()).get("fingerprint"))
            except (ValueError, AttributeError):
                continue


def _working_texts(root: Path) -> Iterator[str]:
    from trainyard.dvc_lock import COPY

    for path in (root / "dvc.lock", root / COPY, *root.rglob("*.dvc"), *(root / ".dvc" / "tmp" / "exps").rglob("dvc.lock")):
        if path.is_file() and not {".venv", "node_modules"} & set(path.relative_to(root).parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def _other_worktrees(root: Path) -> Iterator[Path]:
    """Yield the project's folder in each other worktree of its repository, for it may share the cache."""
    prefix = _git(root, "rev-parse", "--show-prefix").strip()
    for line in _git(root, "worktree", "list", "--porcelain").splitlines():
        word, _, place = line.partition(" ")
        if word == "worktree" and (folder := Path(place, prefix)).is_dir() and not folder.samefile(root):
            yield folder


def _committed_texts(root: Path) -> Iterator[str]:
    """Yield each dvc.lock and *.dvc file of every commit that git has: of branches, tags, stashes and experiments."""
    options = ("--all", "--reflog", "-m", "--format=", "--raw", "--no-abbrev")
    listed = _git(root, "log", *options, "--", "dvc.lock", "*dvc.lock", "*.dvc")
    blobs = {word for word in re.findall(r"\b[0-9a-f]{40}\b", listed) if set(word) != {"0"}}
    if not blobs:
        return
    yield _git(root, "cat-file", "--batch", told="\n".join(sorted(blobs)))


def _git(root: Path, *arguments: str, told: str = "") -> str:
    """Return what git answers.

    Raises:
        MachineError: it cannot. What it would have named must not be taken for unused.
    """
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=root, input=told, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise MachineError(f"git cannot be run ({error}); install it") from error
    if done.returncode:
        raise MachineError(
            f"{' '.join(command[:2])}: {last_line(Exception(done.stderr))}; nothing of DVC's cache is deleted: "
            "mend that, then the same command again"
        )
    return done.stdout


def _delete(root: Path, paths: list[Path]) -> bool:
    if at_work(root):
        return False
    for path in paths:
        path.unlink(missing_ok=True)
    return True


def _drop(lock: Path) -> bool:
    return drop(node_folder(), lock) > 0
