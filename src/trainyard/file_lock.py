"""Locks on files (flock(2)), which the kernel gives back however their holder ends.

Where another process has one, there are three answers: to wait for it, to refuse at once, or to go on without it.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from trainyard.errors import MachineError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""How file systems say that they have none."""


def take(file: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file, and say whether that was possible; closing it gives the lock back.

    Args:
        file: which stays open as long as the lock is held.
        shared: with others who share it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, _kind(shared) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(file: IO[Any] | int, *, shared: bool = False) -> None:
    """Lock an open file, or a descriptor, once no other process has it; see `take`."""
    fcntl.flock(file, _kind(shared))


@contextmanager
def hold(path: Path, taken: Callable[[IO[str]], object]) -> Iterator[IO[str]]:
    """Hold a lock within the block, and give its file, in which its holder may say who that is.

    Args:
        path: of the file, which is made if need be.
        taken: called where another process holds it: what it raises refuses; if it returns, this one waits.

    Raises:
        MachineError: the file system has no locks.
        OSError: the file cannot be opened.
    """
    with path.open("a+", encoding="utf-8", errors="replace") as file:
        try:
            if not take(file):
                taken(file)
                wait_for(file)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise MachineError(
                f"{path}: cannot be locked ({error.strerror}); mount that file system with locks (NFS without nolock, "
                "Lustre with flock), or work on a disk of this machine"
            ) from None
        yield file


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock within the block, and say whether it could be had.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    with path.open("a") as file:
        yield take(file)


def _kind(shared: bool) -> int:
    return fcntl.LOCK_SH if shared else fcntl.LOCK_EX
