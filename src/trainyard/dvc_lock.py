"""dvc.lock, which DVC writes in place and git merges by lines: a copy of the last whole one, and a way back to a whole one."""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard.errors import IntegrityError
from trainyard.file_lock import take
from trainyard.files import write_whole
from trainyard.provenance import git

LOCK = "dvc.lock"
COPY = Path(".trainyard", "dvc.lock.good")
CONFLICT = re.compile(rb"^<{7} ", re.MULTILINE)
"""How git begins what it could not merge."""
SHOWN = 4
Entries = dict[str, Any]
"""By stage: its command, and the hashes of what it read and wrote. An entry that was true once stays so."""


def keep_copy(folder: Path) -> None:
    """Keep a copy of dvc.lock, unless a dvc process may be writing it. Called where DVC has just read it, so it is whole."""
    # A missing copy must not end a stage.
    with suppress(OSError), ExitStack() as stack:
        lock = folder / ".dvc" / "tmp" / "lock"
        if lock.exists() and not take(stack.enter_context(lock.open("rb")), shared=True):
            return
        text = (folder / LOCK).read_bytes()
        if _read(folder / COPY) != text:
            write_whole(folder / COPY, text)


def read_lock(folder: Path) -> Entries:
    """Return the entries of a project's dvc.lock; none where there is no such file.

    Raises:
        IntegrityError: it is damaged, or git left a conflict in it.
    """
    path = folder / LOCK
    entries = entries_of(path.read_bytes()) if path.is_file() else {}
    if entries is None:
        raise IntegrityError(f"{path}: is damaged, or git left a merge conflict in it; put it right: trainyard repair")
    return entries


def mend_lock(folder: Path) -> str | None:
    """Put dvc.lock back as it was before it was damaged; return what was done, or None where it is whole.

    Taken are the copy that the last stage kept, or else git's, and all entries that are whole in the damaged file, which
    are the newest. Where git could not merge it, the entries of both sides are taken.

    Raises:
        IntegrityError: nothing whole is left of it anywhere.
    """
    path = folder / LOCK
    if not path.exists():
        return None
    text = path.read_bytes()
    copy = _read(folder / COPY)
    if entries_of(text) is not None and not (copy is not None and len(text) < len(copy) and copy.startswith(text)):
        return None
    if CONFLICT.search(text) and (sides := _sides(folder)) is not None:
        entries, contested = _merged(*sides)
        write_whole(path, written(entries))
        more = f" and {len(contested) - SHOWN} more" if len(contested) > SHOWN else ""
        ours = f", those of HEAD for {', '.join(contested[:SHOWN])}{more}, which both had changed" if contested else ""
        return (
            f"{LOCK}: git had left a merge conflict in it; has the entries of both sides{ours}: {len(entries)} stages; "
            f"next: dvc repro, then git add {LOCK}"
        )
    source, base, kept = str(COPY), copy, entries_of(copy)
    if kept is None:
        source, base = "git", git(folder, "show", f"HEAD:./{LOCK}")
        kept = entries_of(base)
    found = whole_part(text)
    if kept is None and not found:
        raise IntegrityError(
            f"{path}: is damaged, and neither {COPY} nor git has a whole one; delete it: `dvc repro` then makes everything "
            "again, or takes it from DVC's cache where it has it"
        )
    entries = {**(kept or {}), **found}
    write_whole(path, base if base and entries == kept else written(entries))
    origin = f"put back from {source}" if kept is not None else "rebuilt from its whole entries"
    return f"{LOCK}: was damaged ({len(text):,} bytes, {len(found)} whole entries); {origin}: {len(entries)} stages"


def entries_of(text: bytes | None) -> Entries | None:
    """Return the entries of a dvc.lock, or None where DVC would refuse it, or take it for another one."""
    if text is None:
        return None
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        values = YAML(typ="safe").load(text.decode())
        COMPILED_LOCKFILE_SCHEMA(values)
    except (YAMLError, UnicodeDecodeError, Invalid):
        return None
    entries: Entries = values.get("stages", {})
    return entries if all(map(_has_whole_hashes, entries.values())) else None


def whole_part(text: bytes) -> Entries:
    """Return the entries of a cut-off dvc.lock before its last one, which may be half."""
    lines = text.decode(errors="replace").splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line[:2] == "  " and line[2:3] not in (" ", "", "\n")]
    return entries_of("".join(lines[: starts[-1]]).encode()) or {} if len(starts) > 1 else {}


def written(entries: Entries) -> bytes:
    """Return a dvc.lock as DVC writes it."""
    stream = StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.dump({"schema": "2.0", "stages": entries}, stream)
    return stream.getvalue().encode()


def _sides(folder: Path) -> tuple[Entries, Entries, Entries] | None:
    """Return the entries from which both sides of a merge came, of HEAD, and of the other one; None where git is in no merge.

    What git merged by itself within an entry, line by line, may be of two executions, and is not taken.
    """
    before, ours, theirs = (entries_of(git(folder, "show", f":{number}:./{LOCK}")) for number in (1, 2, 3))
    return None if ours is None or theirs is None else (before or {}, ours, theirs)


def _merged(before: Entries, ours: Entries, theirs: Entries) -> tuple[Entries, list[str]]:
    """Return each stage's entry of the side that changed it, of ours where both did, and the names of these."""
    entries: Entries = {}
    contested = []
    for name in dict.fromkeys((*ours, *theirs)):
        was, here, there = before.get(name), ours.get(name), theirs.get(name)
        taken = there if here == was else here
        if was not in (here, there) and here != there:
            contested.append(name)
            taken = here or there
        if taken is not None:
            entries[name] = taken
    return entries, contested


def _has_whole_hashes(entry: dict[str, Any]) -> bool:
    return all(_is_hash(file) for part in ("deps", "outs") for file in entry.get(part, []))


def _is_hash(file: dict[str, Any]) -> bool:
    md5 = file.get("md5")
    # A name that is cut off, DVC refuses: with a message that says nothing.
    named = file.get("hash", "md5") not in (None, "m", "md")
    return named and (md5 is None or len(str(md5).removesuffix(".dir")) == 32)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
