"""What a job hands back: its entries of dvc.lock and the small outputs that DVC does not keep, as a block in its log."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard.errors import InputError, IntegrityError, ServiceError
from trainyard.files import write_whole

MARK = "trainyard-result "
"""Begins each line of the block; the last one holds the hash of the others."""
LINE = 400
"""Characters of a line."""
MAX_BYTES = 8 * 2**20
"""Of the block: more belongs into DVC's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What stages made."""

    stages: dict[str, Any]
    """Stage -> its entry in dvc.lock."""
    base: dict[str, Any]
    """The same in the dvc.lock that was submitted."""
    files: dict[str, bytes]
    """Path in the project -> content."""


def collect(work: Path, submitted: Path, stages: Sequence[str], kept: Sequence[str]) -> Results:
    """Return what a job made in `work` of what was `submitted`."""
    files = {}
    for name in kept:
        path = work / name
        inner = [path] if path.is_file() else [inner for inner in sorted(path.rglob("*")) if inner.is_file()]
        files.update({found.relative_to(work).as_posix(): found.read_bytes() for found in inner})
    made, base = read_lock(work / "dvc.lock"), read_lock(submitted / "dvc.lock")
    return Results(
        stages={name: made[name] for name in stages if name in made},
        base={name: base[name] for name in stages if name in base},
        files=files,
    )


def to_lines(results: Results) -> Iterator[str]:
    """Yield the block's lines.

    Raises:
        InputError: outputs without `cache` are too large for it.
    """
    values = {
        "stages": results.stages,
        "base": results.base,
        "files": {name: base64.b64encode(content).decode() for name, content in results.files.items()},
    }
    text = base64.b64encode(zlib.compress(json.dumps(values).encode(), 9)).decode()
    if len(text) > MAX_BYTES:
        largest = max(results.files, key=lambda name: len(results.files[name]))
        raise InputError(f"dvc.yaml: {largest} and other outputs with `cache: false` are too large; let DVC cache them")
    for start in range(0, len(text), LINE):
        yield MARK + text[start : start + LINE]
    yield f"{MARK}sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def from_log(log: str) -> Results:
    """Return the results in a finished job's log.

    Raises:
        ServiceError: there are none, or not all of them.
    """
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    text = "".join(line for line in lines if not line.startswith("sha256:"))
    if not lines or lines[-1] != f"sha256:{hashlib.sha256(text.encode()).hexdigest()}":
        raise ServiceError(
            "the job is done, but its log is gone or cut, and its results with it; submit with --again: what is done "
            "is taken from the cluster's cache"
        )
    values = json.loads(zlib.decompress(base64.b64decode(text)))
    files = {name: base64.b64decode(content) for name, content in values["files"].items()}
    return Results(stages=values["stages"], base=values["base"], files=files)


def read_lock(path: Path) -> dict[str, Any]:
    """Return the stages of a dvc.lock, none where there is no such file.

    Raises:
        InputError: it is no YAML.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        return {}
    except YAMLError as error:
        raise InputError(f"{path}: is no whole dvc.lock ({str(error).splitlines()[0]}); git checkout {path.name}") from None
    return dict((values or {}).get("stages") or {})


def merge(root: Path, results: Results) -> list[str]:
    """Put results into the project; return the stages whose entries in dvc.lock are new.

    Raises:
        InputError: a stage was run here meanwhile, with another outcome.
        IntegrityError: a file would be written outside the project.
        ServiceError: another dvc command works here.
    """
    lock = root / "dvc.lock"
    unsafe = [name for name in results.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if unsafe:
        raise IntegrityError(f"{unsafe[0]}: the job would write outside the project; nothing was changed")
    with _dvc_locked(root):
        here = read_lock(lock)
        changed = [name for name, entry in results.stages.items() if here.get(name) != entry]
        if clashing := [name for name in changed if name in here and here[name] != results.base.get(name)]:
            raise InputError(
                f"dvc.lock: {', '.join(clashing)} was run here since the job was sent, with another outcome, which is kept; "
                "to take the job's instead: git checkout dvc.lock, then the same command again"
            )
        for name, content in results.files.items():
            path = root / name
            if not path.is_file() or path.read_bytes() != content:
                write_whole(path, content)
        if changed:
            write_whole(lock, _merged(lock, results, changed))
    return changed


def _merged(lock: Path, results: Results, changed: list[str]) -> bytes:
    """Return dvc.lock as DVC itself would write it."""
    from dvc.utils.serialize import dumps_yaml

    values = YAML().load(lock) if lock.exists() else None
    values = values or {"schema": "2.0", "stages": {}}
    values["stages"] = values.get("stages") or {}
    values["stages"].update({name: results.stages[name] for name in changed})
    return str(dumps_yaml(values)).encode()


@contextmanager
def _dvc_locked(root: Path) -> Iterator[None]:
    """Hold DVC's own lock on the project, as its commands do while they write."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        try:
            repo.lock.lock()
        except LockError:
            raise ServiceError("another dvc command works here, so dvc.lock was left alone; the same command again") from None
        try:
            yield
        finally:
            repo.lock.unlock()
