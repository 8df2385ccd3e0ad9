"""What every stage does around its work: one at a time, gone with its parent, errors as one headline with an exit code."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from trainyard.errors import Interrupted, MachineError, TrainyardError
from trainyard.masking import mask
from trainyard.progress import say
from trainyard.provenance import scratch_root

OPT_OUTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
PARENT_POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0


class Clock:
    """The seconds of a stage: from the start of the process, and those of its real work."""

    def __init__(self) -> None:
        self.work_seconds = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the time inside as work."""
        began = time.monotonic()
        yield
        self.work_seconds += time.monotonic() - began

    def overhead_seconds(self) -> float:
        """Return the seconds of this process so far that were no work: interpreter, imports, Ray, tracking."""
        return max(0.0, process_seconds() - self.work_seconds)


def run_stage(recipe: str, stage: str, work: Callable[[Clock], str]) -> None:
    """Run a stage's work and say how it ended; leave with the exit code of what went wrong.

    `work` returns the line that tells what came out.
    """
    os.environ.update({name: value for name, value in OPT_OUTS.items() if name not in os.environ})
    signal.signal(signal.SIGTERM, _terminate)
    sys.excepthook = _unexpected
    _end_with_parent()
    clock = Clock()
    try:
        with _alone(recipe, stage):
            line = work(clock)
        say(recipe, stage, f"{line} ({clock.work_seconds:.1f} s work, {clock.overhead_seconds():.1f} s around it)")
    except KeyboardInterrupt:
        _leave(recipe, stage, "stopped; run the same command again to continue", 130)
    except TrainyardError as error:
        _leave(recipe, stage, str(error), error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EMFILE):
            raise
        problem = machine_error(error)
        _leave(recipe, stage, str(problem), problem.exit_code)


def machine_error(error: OSError) -> MachineError:
    """Return what a full, read-only or forbidden disk means to the user."""
    fix = {
        errno.ENOSPC: "the disk is full: make room there",
        errno.EDQUOT: "the quota is used up: make room there",
        errno.EROFS: "the file system is read-only: make it writable",
        errno.EACCES: "permission denied: make it writable for this user",
        errno.EMFILE: "too many open files: raise `ulimit -n`",
    }.get(error.errno or 0, str(error))
    return MachineError(f"{error.filename or Path.cwd()}: {fix}, then run the same command again; nothing is lost")


def process_seconds() -> float:
    """Return the seconds since this process began, interpreter start included."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return time.process_time()
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _leave(recipe: str, stage: str, message: str, code: int) -> None:
    sys.stdout.flush()
    sys.stderr.write(mask(f"\n{recipe} · {stage} · ERROR: {message}\n"))
    if os.environ.get("TRAINYARD_DEBUG"):
        sys.stderr.write(mask(traceback.format_exc()))
    sys.stderr.flush()
    sys.exit(code)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what nobody expected as Python does, without the secrets that a message may quote."""
    sys.stderr.write(mask("".join(traceback.format_exception(kind, error, trace))))


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("was told to end; run the same command again to continue")


@contextmanager
def _alone(recipe: str, stage: str) -> Iterator[None]:
    """Hold the recipe's lock, which the kernel gives back however this process ends."""
    folder = scratch_root() / ".trainyard" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{recipe}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(recipe, stage, "waits for another process that works on this recipe")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_with_parent() -> None:
    """End when `dvc` does: DVC starts a stage without telling the kernel that the two belong together."""
    if "DVC_STAGE" not in os.environ:
        return
    watched = _ancestors()
    threading.Thread(target=_watch, args=(watched,), name="parent-watch", daemon=True).start()


def _ancestors() -> list[tuple[int, str]]:
    """Return (pid, start time) of the parents up to the dvc process, shells between included."""
    found = []
    pid = os.getppid()
    while pid > 1:
        fields = _stat(pid)
        if fields is None:
            break
        found.append((pid, fields[19]))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        if "dvc" in command and not command.startswith(("/bin/sh", "sh\0", "/bin/bash", "bash\0")):
            break
        pid = int(fields[1])
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, or None when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields


def _watch(watched: list[tuple[int, str]]) -> None:
    while all((fields := _stat(pid)) is not None and fields[19] == started for pid, started in watched):
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
