"""The `dvc` that a stage works for: the stage ends when it is gone, for DVC starts it without telling the kernel."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from trainyard.errors import Interrupted

PARENT = "TRAINYARD_PARENT"
"""Variable of a stage's environment where no dvc started it: the process that did, which it ends with."""
PARENT_POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""From the request to end until the kernel ends the process; with the poll it stays within ten seconds."""
SHELLS = ("sh", "bash", "dash", "zsh", "fish")


def end_with_parent() -> None:
    """Watch the process that started this stage, dvc or a command that names itself in PARENT, and end with it.

    Raises:
        Interrupted: it was killed before it could be watched.
    """
    what = "`dvc`"
    if "DVC_STAGE" in os.environ:
        watched = _parents_up_to_dvc()
    elif name := os.environ.get(PARENT):
        pid, _, started = name.partition(":")
        fields = process_state(int(pid))
        watched = [(int(pid), started)] if fields is not None and fields[19] == started else []
        what = "command"
    else:
        return
    if not watched:
        raise Interrupted(f"the {what} that started this is gone; run the same command again")
    threading.Thread(target=_watch, args=(watched,), name="parent-watch", daemon=True).start()


def this_process() -> str:
    """Return what a stage is told in PARENT of this process: its number, and when it began, for numbers are used again."""
    fields = process_state(os.getpid())
    return f"{os.getpid()}:{fields[19] if fields else ''}"


def process_state(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, or None when the process is gone or waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields


def _parents_up_to_dvc() -> list[tuple[int, str]]:
    """Return (pid, start time) of the parents up to the dvc process, shells between included; nothing if it is gone.

    It is the one that has this stage's outputs locked, also where Python code runs DVC under another name.
    """
    holders = _lock_holders()
    found = []
    pid = os.getppid()
    while pid >= 1:
        fields = process_state(pid)
        if fields is None:
            return []
        found.append((pid, fields[19]))
        if (holders is not None and pid in holders) or _is_dvc(pid):
            return found
        pid = int(fields[1])
    # Where DVC's lock cannot be read, all of them are watched.
    return found if holders is None else []


def _lock_holders() -> set[int] | None:
    """Return the pids in DVC's list of what is locked by whom, or None where it cannot be read."""
    try:
        entries = json.loads(Path(".dvc", "tmp", "rwlock").read_text(encoding="utf-8"))
        writers = [entry["pid"] for entry in entries.get("write", {}).values()]
        readers = [entry["pid"] for infos in entries.get("read", {}).values() for entry in infos]
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return {*writers, *readers}


def _is_dvc(pid: int) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return os.path.basename(arguments[0]) not in SHELLS and is_dvc_command(arguments)


def is_dvc_command(arguments: list[str]) -> bool:
    """Return whether a command line runs DVC: as `dvc`, as `python .../dvc`, or as `python -m dvc`."""
    return any(
        os.path.basename(argument) == "dvc" or argument.endswith("/dvc/__main__.py")
        for argument in arguments[:4]
        if not argument.startswith("-")
    )


def _watch(watched: list[tuple[int, str]]) -> None:
    while all((fields := process_state(pid)) is not None and fields[19] == started for pid, started in watched):
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
