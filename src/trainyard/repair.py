"""What a killed `dvc` or a broken disk can leave so that DVC itself no longer starts, put right before it does."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

from trainyard.dvc_lock import keep_copy, mend_lock
from trainyard.dvc_processes import Process, at_work, locked, mend_rwlock
from trainyard.dvc_settings import settings
from trainyard.errors import InputError, MachineError
from trainyard.moved import follow_move

POLL_SECONDS = 1.0
CLAIM = re.compile(r"[0-9a-f]{32}\.lock")
"""The file that a lock by hard link is a link to."""


def repair(folder: Path) -> list[str]:
    """Put right what is damaged in a project's own files of DVC, touch nothing that is whole, and return what was done.

    Raises:
        InputError: there is no project in `folder`, or DVC's settings cannot be read.
        IntegrityError: dvc.lock is damaged and there is nothing to put it right from.
        MachineError: a dvc process is at work with what is damaged.
    """
    if not (folder / ".dvc").is_dir():
        raise InputError(f"{folder}: is no DVC project (there is no folder .dvc); change to the project's folder")
    working, tmp_dir = at_work(folder), folder / ".dvc" / "tmp"
    hard = _has_hard_locks(folder)
    done = _free_hard_locks(tmp_dir, working) if hard else []
    with nullcontext() if hard else locked(tmp_dir / "rwlock.lock"):
        done += mend_rwlock(folder, working)
    with nullcontext() if hard else locked(tmp_dir / "lock"):
        if (line := mend_lock(folder)) is not None:
            done.append(line)
        done += _drop_broken_states(folder, working)
    keep_copy(folder)
    if (line := follow_move(folder.resolve())) is not None:
        done.append(line)
    return done


def wait_for_others(folder: Path, say: Callable[[str], None]) -> None:
    """Wait until no other dvc process is at work in a project, and say for which one."""
    said: list[int] = []
    while working := at_work(folder):
        if working[0].pid not in said:
            said.append(working[0].pid)
            say(f"waits for {working[0]}")
        time.sleep(POLL_SECONDS)


def _has_hard_locks(folder: Path) -> bool:
    """Return whether DVC is told to lock by hard links, which outlive the process that made them."""
    return bool(settings(folder)["core"].get("hardlink_lock", False))


def _free_hard_locks(tmp_dir: Path, working: list[Process]) -> list[str]:
    """Delete the locks that a dvc left."""
    left = [path for name in ("lock", "rwlock.lock") if (path := tmp_dir / name).exists()]
    if not left:
        return []
    if working:
        raise MachineError(f"{left[0]}: is held, most likely by {working[0]}; run this again after its end")
    for path in (*left, *(claim for claim in tmp_dir.glob("*.lock") if CLAIM.fullmatch(claim.name))):
        path.unlink(missing_ok=True)
    return [f"{path.name}: was left by a dvc that is gone; deleted" for path in left]


def _drop_broken_states(folder: Path, working: list[Process]) -> list[str]:
    """Delete DVC's databases of known hashes where they are damaged; it hashes anew then."""
    done = []
    for path in sorted(_state_folder(folder).rglob("*.db")):
        if _is_whole(path):
            continue
        if working:
            raise MachineError(f"{path}: is damaged, and {working[0]} is at work; run this again after its end")
        for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            part.unlink(missing_ok=True)
        done.append(f"{path}: was damaged; deleted, DVC hashes anew what it knew")
    return done


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            return list(connection.execute("pragma quick_check(1)")) == [("ok",)]
    except sqlite3.OperationalError as error:
        # Held by another process, or not readable for this user: nothing that is known to be damaged.
        return "malformed" not in str(error)
    except sqlite3.DatabaseError:
        return False


def _state_folder(folder: Path) -> Path:
    """Return where DVC keeps what it knows of a project's files, outside of it."""
    from dvc.fs import localfs
    from dvc.repo import Repo

    tmp_dir = folder.resolve() / ".dvc" / "tmp"
    # By DVC's own rule, without opening the project, which opens the databases.
    project = SimpleNamespace(
        config=settings(folder), fs=localfs, root_dir=str(folder.resolve()), tmp_dir=str(tmp_dir), _btime=None
    )
    btime = tmp_dir / "btime"
    if btime.exists():
        project._btime = btime.stat().st_mtime
    return Path(Repo.__dict__["site_cache_dir"].fget(project))
