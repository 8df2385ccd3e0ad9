"""The dvc processes that are at work in a project, and the list in which DVC writes who has what locked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trainyard.errors import MachineError
from trainyard.file_lock import take
from trainyard.files import write_whole
from trainyard.parent import is_dvc_command

WAIT_SECONDS = 60.0
"""For DVC's own locks, which it holds for moments."""
SAME_SECONDS = 2.0
"""A process this much younger than the list in which its number stands is another one than was meant."""


@dataclass(frozen=True)
class Process:
    """A process at work."""

    pid: int
    command: str
    started: float
    """Seconds since 1970."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"pid {self.pid}, since {since}: {self.command}"


def at_work(folder: Path) -> list[Process]:
    """Return the dvc processes whose current folder is in the project; those of other users cannot be seen."""
    root = folder.resolve()
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            if not is_dvc_command(arguments) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if Path(process.cwd()).is_relative_to(root):
                found.append(Process(process.pid, " ".join(arguments), process.create_time()))
        except (psutil.Error, OSError):
            continue
    return sorted(found, key=lambda process: process.started)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file as DVC holds it.

    Raises:
        MachineError: another process holds it and does not let go.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + WAIT_SECONDS
        while not take(file):
            if time.monotonic() > deadline:
                raise MachineError(f"{path}: {_holder(path)} holds it; wait for its end, or end it")
            time.sleep(0.2)
        yield


def mend_rwlock(folder: Path, working: list[Process]) -> list[str]:
    """Take out of DVC's list who is gone, and write it anew where it is damaged; return what was done. Call it locked.

    DVC takes a number that another program has by now, or of a killed process that nobody has reaped, for one at work.

    Raises:
        MachineError: it is damaged, and a dvc process is at work that needs it.
    """
    path = folder / ".dvc" / "tmp" / "rwlock"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        kept, gone = _sorted_out(entries, path.stat().st_mtime)
    except (ValueError, TypeError, AttributeError, KeyError):
        if working:
            raise MachineError(f"{path}: is damaged, and {working[0]} is at work; run this again after its end") from None
        write_whole(path, b"{}")
        return [f"{path.name}: was damaged; nobody is at work, so it is empty again"]
    if gone:
        write_whole(path, json.dumps(kept).encode())
    return [f"{path.name}: pid {pid} ({command}) is gone; its locks are taken away" for pid, command in sorted(gone)]


def _sorted_out(entries: dict[str, Any], written: float) -> tuple[dict[str, Any], set[tuple[int, str]]]:
    """Return the entries of those that live, and (pid, command) of the others."""
    gone: set[tuple[int, str]] = set()

    def lives(info: dict[str, Any]) -> bool:
        pid, command = int(info["pid"]), str(info["cmd"])
        alive = _is_same(pid, command, written)
        if not alive:
            gone.add((pid, command))
        return alive

    write = {path: info for path, info in entries.get("write", {}).items() if lives(info)}
    read = {path: [info for info in infos if lives(info)] for path, infos in entries.get("read", {}).items()}
    return {"write": write, "read": {path: infos for path, infos in read.items() if infos}}, gone


def _is_same(pid: int, command: str, written: float) -> bool:
    """Return whether a process is the one that wrote itself down: older than the list, and run with the same arguments."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + SAME_SECONDS:
            return False
        said = command.partition(" ")[2]
        return said in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's, of which nothing more is known
        return True


def _holder(path: Path) -> str:
    try:
        pid = int(path.read_text(encoding="utf-8"))
        process = psutil.Process(pid)
        return str(Process(pid, " ".join(process.cmdline()), process.create_time()))
    except (OSError, ValueError, psutil.Error):
        return "another process"
