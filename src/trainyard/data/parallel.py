"""Work on pieces of data in processes of this machine, whose results come in the order of the pieces."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from trainyard.errors import MachineError

PIECES_AHEAD = 4
"""For each process: waiting for it, or waiting to be taken."""
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int = -1) -> Iterator[Result]:
    """Yield `work(piece)` for each piece, worked on by so many processes.

    Args:
        work: the processes are forked with it and all that it holds; only pieces and results travel between them.
        pieces: taken a few at a time, so they may be more than memory holds.
        workers: -1 for one a processor, 1 for this process alone.

    Raises:
        MachineError: a process was killed, or none can be started.
    """
    workers = len(os.sched_getaffinity(0)) if workers == -1 else workers
    if workers == 1:
        yield from map(work, pieces)
        return
    # Forked: they begin at once, with all that is imported here, and share its memory and its recipe's lock.
    context = multiprocessing.get_context("fork")
    try:
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), work))
    except (OSError, NotImplementedError) as error:
        # The locks between processes lie there.
        raise MachineError(
            f"/dev/shm: processes to read the data with cannot be started ({error}); make it writable for this user, with room"
        ) from None
    waiting: deque[Future[Result]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(_run, piece))
            if len(waiting) >= PIECES_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise MachineError(
            "a process that read the data was killed, most often because memory ran out; free some, and run the same command "
            "again: it continues"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_work: Callable[[Any], Any] | None = None
"""What a forked process does; never set in the one that it was forked from."""


def _run(piece: Any) -> Any:
    if _work is None:
        raise RuntimeError("a process began without its work")
    return _work(piece)


def _begin(parent: int, work: Callable[[Any], Any]) -> None:
    """Take the work, and end when the parent is gone, however that ended; left alone, this would wait for ever."""
    global _work
    _work = work
    # The parent hears of Ctrl-C too, and says so once for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What it was forked with is not searched for garbage, which would copy it.
    gc.freeze()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
