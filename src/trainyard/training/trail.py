"""Where each worker is, so that a crash which repeats at the same samples is not repeated for ever.

<folder>/rank-0.at         on the worker's own node, written into mapped memory: attempt, epoch and step under way; a killed
                           process leaves it behind
<store>/trail/rank-0.json  where it was and what it said, of a worker that could still speak
<store>/trail/crashes.json the attempt under way, and how those ended that did not end well

So no node needs to see another's folder: the next attempt's workers bring what lies on their nodes, and of a node that is gone
with its worker it is known from the others where that one died.
"""

from __future__ import annotations

import json
import mmap
import secrets
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainyard.errors import InputError, MachineError, ServiceError, TrainyardError
from trainyard.training.store import Store, put

SAME_CRASHES = 3
"""So many attempts in a row that end in one and the same step are not followed by another."""
SAID_SECONDS = 5.0
"""How long a worker that ends may take to say why; the others learn of its end after that."""
PLACE = struct.Struct("<qq")
FORM = struct.Struct("<qq16s")
NOWHERE = (-1, -1)
FOLDER = "trail"
BOOK = f"{FOLDER}/crashes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """How an attempt ended."""

    epoch: int
    """0-based."""
    step: int
    """0-based, within the epoch."""
    silent: list[int]
    """Ranks that said nothing before they ended."""
    errors: dict[str, str]
    """What the others said, by rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What one worker of an attempt has left behind."""

    attempt: str
    rank: int
    epoch: int
    step: int
    error: str | None = None
    """None: it said nothing."""

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and step."""
        return self.epoch, self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """What is known of the attempts so far."""

    attempt: str = ""
    """Name of the newest one; empty where it is not to be looked at any more."""
    workers: int = 0
    crashes: list[Crash] = field(default_factory=list)


class Trail:
    """One worker's."""

    def __init__(self, folder: Path, store: Store, rank: int) -> None:
        """Prepare to write.

        Args:
            folder: on this node.
            store: what all workers see.
            rank: of the worker.
        """
        self.folder = folder
        self.store = store
        self.rank = rank
        self._attempt = ""
        self._map: mmap.mmap | None = None

    def begin(self, attempt: str) -> None:
        """Open this worker's file; nothing is under way yet."""
        self._attempt = attempt
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"rank-{self.rank}.at").open("wb+") as file:
            file.write(FORM.pack(*NOWHERE, attempt.encode()))
            file.flush()
            self._map = mmap.mmap(file.fileno(), FORM.size)

    def at(self, epoch: int, step: int) -> None:
        """Say what is under way now; both 0-based."""
        if self._map is not None:
            PLACE.pack_into(self._map, 0, epoch, step)

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing is under way any more, or what went wrong in the midst of it."""
        if self._map is None:
            return
        if error is None:
            self.at(*NOWHERE)
        else:
            self._say(f"{type(error).__name__}: {error}")
        self._map.close()
        self._map = None

    def left_here(self) -> list[Left]:
        """Return what lies on this node, of any attempt."""
        found = []
        for path in sorted(self.folder.glob("rank-*.at")):
            with suppress(OSError, struct.error, ValueError):
                epoch, step, attempt = FORM.unpack(path.read_bytes())
                rank = int(path.stem.removeprefix("rank-"))
                found.append(Left(attempt=attempt.rstrip(b"\0").decode(), rank=rank, epoch=epoch, step=step))
        return found

    def _say(self, text: str) -> None:
        epoch, step = PLACE.unpack_from(self._map or b"")
        left = Left(attempt=self._attempt, rank=self.rank, epoch=epoch, step=step, error=text)

        def post() -> None:
            with suppress(OSError, ServiceError):
                put(self.store, f"{FOLDER}/rank-{self.rank}.json", json.dumps(asdict(left)).encode())

        poster = threading.Thread(target=post, name="trail", daemon=True)
        poster.start()
        poster.join(SAID_SECONDS)


def look_back(store: Store, left: Iterable[Left], workers: int) -> tuple[Crash | None, str]:
    """Return the crash that each of the last attempts ended with, if it is one, and a name for the next attempt.

    For rank 0, once, before any worker begins. A crash is returned once: the attempts after it count anew.

    Args:
        store: what all workers see.
        left: on all nodes.
        workers: of the next attempt.

    Raises:
        ServiceError: the store does not answer.
    """
    book = _read(store)
    crash = _crash(book, [*left, *_said(store)]) if book.attempt else None
    crashes = [*book.crashes, *([crash] if crash else [])][-SAME_CRASHES:]
    same = len(crashes) == SAME_CRASHES and len({(each.epoch, each.step) for each in crashes}) == 1
    following = _Book() if same else _Book(attempt=secrets.token_hex(8), workers=workers, crashes=crashes)
    # A full disk ends the training where there is more to say of it.
    with suppress(OSError):
        put(store, BOOK, json.dumps(asdict(following)).encode())
    return crashes[-1] if same else None, following.attempt


def explain(crash: Crash, samples: dict[int, list[int]]) -> TrainyardError:
    """Return what to tell of a crash that repeats.

    Args:
        crash: the one.
        samples: of the global batch of its step, by rank.
    """
    ranks = crash.silent or sorted(map(int, crash.errors))
    place = "; ".join(f"rank {rank} at training samples {shown(samples.get(rank, []))}" for rank in ranks)
    begin = f"training stopped: {SAME_CRASHES} attempts in a row ended at epoch {crash.epoch + 1}, step {crash.step + 1} of it"
    if crash.silent:
        return MachineError(
            f"{begin}, where workers died without a word, as they do when memory runs out or native code fails ({place}); "
            "look at these samples and at the machine's log, then run the same command again to continue"
        )
    said = next(iter(crash.errors.values()), "")
    return InputError(f"{begin}: {said} ({place}); look at these samples, then run the same command again to continue")


def shown(samples: list[int]) -> str:
    """Return the first samples of a batch, for a message."""
    return (", ".join(map(str, samples[:8])) or "none") + (", ..." if len(samples) > 8 else "")


def _read(store: Store) -> _Book:
    try:
        values = json.loads(store.read(BOOK))
        return _Book(**{**values, "crashes": [Crash(**crash) for crash in values["crashes"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return _Book()


def _said(store: Store) -> list[Left]:
    """Return what workers said before they ended, of any attempt."""
    found = []
    for name in store.names(FOLDER):
        if name.startswith("rank-"):
            with suppress(OSError, ValueError, TypeError):
                found.append(Left(**json.loads(store.read(f"{FOLDER}/{name}"))))
    return found


def _crash(book: _Book, left: list[Left]) -> Crash | None:
    """Return how the newest attempt ended; None if it ended well."""
    # Those that spoke come later, and say more.
    last = {each.rank: each for each in left if each.attempt == book.attempt}
    places = {rank: each.place for rank, each in last.items() if each.place != NOWHERE}
    if not places:
        return None
    errors = {str(rank): last[rank].error or "" for rank in places if last[rank].error is not None}
    # One of which nothing is left was lost with its node, in the midst of what the others were at.
    silent = [rank for rank in range(book.workers) if (rank in places and str(rank) not in errors) or rank not in last]
    # Those that waited for the one that died may be a step further.
    epoch, step = min([places[rank] for rank in silent if rank in places] or places.values())
    return Crash(epoch=epoch, step=step, silent=silent, errors=errors)
