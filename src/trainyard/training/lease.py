"""One driver at a time: who trains a state holds the place of its checkpoints, by a note there that it renews.

    <place>/holder.json      who holds it, since when, and how often that was renewed

A driver that ends takes its note away. One that was killed leaves it. On the same machine that is seen at once; from
elsewhere, once nothing was heard of it for LEASE_SECONDS. Only what this process hears, and when, counts: clocks of machines
differ.

The workers' own fence (fence.py) sees to it that attempts of one driver do not mix.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainyard.errors import Interrupted, MachineError, ServiceError
from trainyard.parent import process_state
from trainyard.training.store import FolderStore, Store, put
from trainyard.training.timing import LEASE_POLL_SECONDS, LEASE_SECONDS, RENEW_SECONDS, SETTLE_SECONDS

FILE = "holder.json"


class TakenOver(Interrupted):
    """Another driver holds the place of the checkpoints: nothing more may be written there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a place."""

    mark: str
    """Of this driver, like no other's."""
    host: str
    pid: int
    started: str
    """When the process began, in the machine's own count: numbers of processes are used again."""
    machine: str
    """Start of the machine, and its space of process numbers."""
    folder: str
    """Where it works."""
    since: str
    renewed: int = 0
    """How often."""

    @classmethod
    def of_this_process(cls) -> Holder:
        """Return a new holder, which is this process."""
        state = process_state(os.getpid())
        return cls(
            mark=secrets.token_hex(8),
            host=os.uname().nodename,
            pid=os.getpid(),
            started=state[19] if state else "",
            machine=_machine(),
            folder=str(Path.cwd()),
            since=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        )

    def runs(self) -> bool | None:
        """Say whether its process is there; None where that cannot be seen from here."""
        if self.machine != _machine():
            return None
        if self.pid == os.getpid():
            # Before it began again, with the same number.
            return False
        state = process_state(self.pid)
        return state is not None and state[19] == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (in {self.folder}, since {self.since})"


@contextmanager
def held(store: Store, say: Callable[[str], None]) -> Iterator[Lease]:
    """Hold a place within the block; wait for a word of whoever holds it, if need be, and tell of that.

    Raises:
        MachineError: another driver trains there.
        ServiceError: the store does not answer.
        OSError: the store is a folder, and full or read-only.
    """
    lease = Lease(store)
    lease.take(say)
    try:
        yield lease
    finally:
        lease.release()


class Lease:
    """The right of one driver to a place."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.own = Holder.of_this_process()
        self._other: Holder | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self, say: Callable[[str], None]) -> None:
        """Write this driver's note, once nobody else's stands there.

        Raises:
            MachineError: somebody's does, and it is renewed.
            ServiceError, OSError: as `held` raises them.
        """
        other = self._holder()
        if other is None:
            self._write_first()
        else:
            runs = other.runs()
            if runs:
                raise self._refused(other)
            if runs is None:
                self._listen(other, say)
            self._write()
        self._thread.start()

    def check(self) -> None:
        """Go on while this driver holds the place.

        Raises:
            TakenOver: another one does.
        """
        if self._other is not None:
            raise TakenOver(
                f"{self.store.address}: {self._other} has taken over, because nothing was heard of this driver for "
                f"{LEASE_SECONDS:.0f} s; this one ends and writes nothing more"
            )

    def release(self) -> None:
        """Take the note away."""
        self._over.set()
        self._thread.join(RENEW_SECONDS)
        # A note that stays is one of a process that has ended.
        with suppress(ServiceError, OSError):
            if self._is_own(self._holder()):
                self.store.delete(FILE)

    def _listen(self, first: Holder, say: Callable[[str], None]) -> None:
        """Wait until it is sure that nothing is heard any more of somebody elsewhere."""
        say(f"{self.store.address} is held by {first}; waits at most {LEASE_SECONDS:.0f} s for a word of it")
        began = time.monotonic()
        while time.monotonic() - began < LEASE_SECONDS:
            time.sleep(LEASE_POLL_SECONDS)
            now = self._holder()
            if now is None:
                return
            if now != first:
                raise self._refused(now)

    def _write_first(self) -> None:
        """Write the note where there is none; of several that do so at once one gets through."""
        if isinstance(self.store, FolderStore):
            own = f"{FILE}.{self.own.mark}"
            put(self.store, own, self._note())
            try:
                os.link(self.store.path(own), self.store.path(FILE))
                return
            except FileExistsError:
                other = self._holder()
                if other is not None:
                    raise self._refused(other) from None
            except OSError:  # a file system without links
                pass
            finally:
                self.store.delete(own)
        self._write()

    def _write(self) -> None:
        """Write the note over whatever is there, and see whether somebody else has done the same."""
        put(self.store, FILE, self._note())
        time.sleep(SETTLE_SECONDS)
        other = self._holder()
        if other is not None and not self._is_own(other):
            raise self._refused(other)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            # A store that is away for a while is asked again: who wants the place cannot write there either.
            with suppress(ServiceError, OSError):
                other = self._holder()
                if other is not None and not self._is_own(other):
                    self._other = other
                    return
                self.own = replace(self.own, renewed=self.own.renewed + 1)
                if not self._over.is_set():
                    put(self.store, FILE, self._note())

    def _holder(self) -> Holder | None:
        try:
            return Holder(**json.loads(self.store.read(FILE)))
        except (FileNotFoundError, ValueError, TypeError):
            # Files appear whole here. One that is torn is nobody's.
            return None

    def _is_own(self, holder: Holder | None) -> bool:
        return holder is not None and holder.mark == self.own.mark

    def _note(self) -> bytes:
        return f"{json.dumps(asdict(self.own))}\n".encode()

    def _refused(self, other: Holder) -> MachineError:
        return MachineError(
            f"{self.store.address}: {other} trains this very state there; wait for its end and run the same command again, "
            "which then takes what it has made, or end it to continue here"
        )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename
