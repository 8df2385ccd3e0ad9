"""What every stage does around its work: one at a time, gone with its parent, errors as one headline with an exit code."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn

from trainyard.dvc_lock import keep_copy
from trainyard.errors import BeginAgain, Interrupted, MachineError, TrainyardError
from trainyard.file_lock import hold
from trainyard.inputs import Inputs
from trainyard.masking import mask
from trainyard.moved import follow_move
from trainyard.parent import end_with_parent
from trainyard.progress import say
from trainyard.provenance import PARENT_VARIABLE, scratch_root
from trainyard.timings import keep

QUIET = {"TOKENIZERS_PARALLELISM": "false", "GIT_PYTHON_REFRESH": "quiet"}

OF_THE_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EMFILE)
"""What the machine, and nobody's mistake, keeps from being read or written."""

BEGUN_AGAIN = "TRAINYARD_BEGUN_AGAIN"
"""Variable of a stage's own environment: how often it has begun again by itself."""


class Clock:
    """The seconds of a stage: from the start of the process, and those of its real work."""

    def __init__(self) -> None:
        self.work_seconds = 0.0
        self.facts: dict[str, Any] = {}
        """On which the time depends, for the next estimate."""

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
    environment = dict(os.environ)
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    signal.signal(signal.SIGTERM, _terminate)
    sys.excepthook = _unexpected
    # Whatever the user's own says, nobody else may write where a training reads its checkpoints.
    os.umask(os.umask(0) | 0o002)
    clock = Clock()
    try:
        end_with_parent()
        with _alone(recipe, stage), _unchanged(recipe, stage):
            follow_move(scratch_root())
            line = work(clock)
            if PARENT_VARIABLE not in os.environ:
                # A study's variations are no measure of the recipe itself.
                keep(scratch_root(), recipe, stage, clock.work_seconds, clock.overhead_seconds(), clock.facts)
        say(
            recipe,
            stage,
            f"{line} ({clock.work_seconds:.1f} s at work, {clock.overhead_seconds():.1f} s to start and to record)",
        )
    except KeyboardInterrupt:
        _leave(recipe, stage, "stopped; run the same command again to continue", 130)
    except BeginAgain as error:
        times = int(environment.get(BEGUN_AGAIN, "0"))
        if times < error.most:
            _begin_again(recipe, stage, error, {**environment, BEGUN_AGAIN: str(times + 1)})
        _leave(recipe, stage, str(error), error.exit_code)
    except TrainyardError as error:
        _leave(recipe, stage, str(error), error.exit_code)
    except OSError as error:
        if error.errno not in OF_THE_DISK:
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


def _begin_again(recipe: str, stage: str, error: BeginAgain, environment: dict[str, str]) -> None:
    """Become a new process of the same command: with the same number, so that whoever waits for this one goes on waiting."""
    say(recipe, stage, f"{error.what}; begins again by itself, and continues from the newest checkpoint")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what nobody expected as Python does, without the secrets that a message may quote."""
    sys.stderr.write(mask("".join(traceback.format_exception(kind, error, trace))))


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("was told to end; run the same command again to continue")


def leave() -> NoReturn:
    """End this process after its stage, without taking apart what it has imported.

    Python would do so one module after the other, and needs half a second for torch's and Ray's. All else is as ever: threads
    are waited for, what was registered for the end is called, and what was written is passed on.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def _alone(recipe: str, stage: str) -> Iterator[None]:
    """Hold the recipe's lock, which the kernel gives back however this process ends."""
    folder = scratch_root() / ".trainyard" / "locks"
    folder.mkdir(parents=True, exist_ok=True)

    def tell(file: IO[str]) -> None:
        say(recipe, stage, f"waits for {_holder(file)}, which works on this recipe")

    with hold(folder / f"{recipe}.lock", tell) as file:
        with suppress(OSError):  # on a full disk the lock is held as well, though it says not by whom
            file.truncate(0)
            file.write(f"pid {os.getpid()}\n{time.strftime('%Y-%m-%d %H:%M:%S')}\n{' '.join(sys.argv)}\n")
            file.flush()
        yield


def _holder(file: IO[str]) -> str:
    """Return who wrote a lock: process, command, since when."""
    file.seek(0)
    pid, since, command, *_ = [*file.read().splitlines(), "", "", ""]
    return f"{pid} ({command}, since {since})" if command else "another process"


@contextmanager
def _unchanged(recipe: str, stage: str) -> Iterator[None]:
    """Hold the inputs of a stage that DVC runs against what they were, for DVC records what they are at the end.

    Raises:
        Interrupted: one was edited meanwhile.
    """
    if (name := os.environ.get("DVC_STAGE")) is None:
        yield
        return
    keep_copy(Path.cwd())
    inputs = Inputs(name, Path.cwd())
    inputs.tell(lambda text: say(recipe, stage, text))
    yield
    if changed := inputs.changes():
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise Interrupted(
            f"{', '.join(changed[:5])}{more}: edited while this ran, so what came out is not recorded as made from it; "
            "run the same command again"
        )
