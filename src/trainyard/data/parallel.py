"""Work on pieces of data in processes of this machine, whose results come in the order of the pieces."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int = -1) -> Iterator[Result]:
    """Yield `work(piece)` for each piece, worked on by so many processes.

    Args:
        work: a function of a module; it and its results travel between processes.
        pieces: taken a few at a time, so they may be more than memory holds.
        workers: -1 for one a processor, 1 for this process alone.
    """
    # Not scikit-learn's wrapper of the same, which every new process would have to import whole.
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    parallel = Parallel(n_jobs=workers, return_as="generator", initializer=_end_with, initargs=(os.getpid(),))
    results: Iterator[Result] = parallel(delayed(work)(piece) for piece in pieces)
    return results


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended; left alone, it would wait for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=watch, daemon=True).start()
