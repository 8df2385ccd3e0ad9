"""The process that sends journals to their stores, beside a stage or for `trainyard sync`; nobody waits for it.

Its first line on stdin is {"root", "uri", "sync"}. A later {"journal"} names the stage's own, and {"hurry"} says that the stage
waits for its end. When stdin ends, so does this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainyard.tracking import limits
from trainyard.tracking.address import without_password
from trainyard.tracking.journal import Entry, Journal, State, journals, sweep
from trainyard.tracking.points import Point
from trainyard.tracking.settle import settle
from trainyard.tracking.store import Away, Deleted, Lost, Refused, Store

POINTS = 1000
"""Metrics that are sent together."""
SYNC_TRIES = 3
DOUBTS = 5
"""So often an answer that may be final is asked for again."""
LOST = 3
"""So often the whole of a run is told again to a store that has lost it."""


@dataclass(slots=True)
class Pace:
    """When a store is tried again."""

    not_before: float = 0.0
    delay: float = limits.FIRST_RETRY_SECONDS
    failures: int = 0
    since: float = 0.0

    def failed(self, longest: float) -> None:
        """Wait, each time longer."""
        now = time.monotonic()
        self.since = self.since if self.failures else now
        self.failures += 1
        self.not_before = now + min(self.delay, longest)
        self.delay = min(2 * self.delay, limits.LAST_RETRY_SECONDS)

    def answered(self) -> None:
        """Go on at once."""
        self.failures, self.delay, self.not_before = 0, limits.FIRST_RETRY_SECONDS, 0.0

    def hopeless(self) -> bool:
        """Return whether it was tried often or long enough for one command."""
        return self.failures >= SYNC_TRIES or (self.failures > 0 and time.monotonic() - self.since > limits.AWAY_SECONDS)


@dataclass(slots=True)
class Sending:
    """A journal that this process sends."""

    journal: Journal
    lock: IO[str]
    opening: dict[str, Any]
    state: State
    own: bool
    """Its stage is alive, and this process works for it."""
    doubts: int = 0
    lost: int = 0


class Poster:
    """Sends what waits in a project, each run's journals in their order."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root = root
        self.uri = uri
        self.own: Path | None = None
        self.hurry = threading.Event()
        self.held: dict[str, Sending] = {}
        self.stores: dict[str, Store] = {}
        self.paces: dict[str, Pace] = {}
        self.looked = 0.0

    def work(self) -> bool:
        """Send one batch; return whether there was one to send, or to wait for."""
        if time.monotonic() - self.looked >= limits.ADOPT_SECONDS or (self.own and self.own.name not in self.held):
            self.looked = time.monotonic()
            self._look()
        blocked: set[tuple[str, str]] = set()
        own_run = next((run_of(sending.opening) for sending in self.held.values() if sending.own), None)
        folders = journals(self.root)
        for folder in sorted(folders, key=lambda path: (run_of(self._opening(path)) != own_run, path.name)):
            sending = self.held.get(folder.name)
            run = run_of(self._opening(folder))
            if run not in blocked and sending and self._send(sending):
                return True
            # What happened later to a run is told after what happened before.
            blocked.add(run)
        return False

    def waiting(self) -> list[Path]:
        """Return the journals that are not sent and that nobody else sends."""
        self._look()
        return [sending.journal.folder for sending in self.held.values()]

    def _opening(self, folder: Path) -> dict[str, Any]:
        sending = self.held.get(folder.name)
        return sending.opening if sending else Journal(folder, None).opening()

    def _look(self) -> None:
        sweep(self.root)
        for folder in journals(self.root):
            if folder.name in self.held:
                continue
            own = folder == self.own
            journal = Journal(folder, None) if own else Journal.adopt(folder)
            if journal is None:
                continue
            lock, opening = journal.sender_lock(), journal.opening()
            if lock is None or not opening:
                journal.release()
                continue
            if not own:
                settle(journal)
            self.held[folder.name] = sending = Sending(journal, lock, opening, journal.load_state(), own)
            if not own and journal.complete():
                # Whoever sent the last of it was killed before it was deleted: the run's next journal would wait for it.
                self._finished(sending)

    def _send(self, sending: Sending) -> bool:
        """Send the next of a journal, if its store is not to be left alone for now; forget it when all is sent."""
        uri = sending.opening["uri"]
        pace = self.paces.setdefault(uri, Pace())
        batch = self._batch(sending)
        if not batch or time.monotonic() < pace.not_before:
            return False
        try:
            if not sending.state.deleted:
                self._tell(sending, self._store(uri), batch)
        except Refused as refused:
            if batch[0].kind == "open":
                # Without a run there is nothing to add to; what is refused today may be allowed tomorrow.
                return self._failed(uri, str(refused))
            if isinstance(refused, Lost) and sending.lost < LOST:
                sending.lost += 1
                sending.state = State(notes=sending.state.notes)
                return self._failed(uri, f"{refused}; all that is known of it is told anew")
            sending.state.deleted = isinstance(refused, Deleted | Lost)
            sending.state.notes.append(
                f"what was still to come: {refused}" if sending.state.deleted else f"{described(batch)}: {refused}"
            )
        except Away as away:
            sending.doubts = sending.doubts + 1 if away.doubtful else 0
            if sending.doubts < DOUBTS or batch[0].kind == "open":
                return self._failed(uri, str(away))
            sending.state.notes.append(f"{described(batch)}: {away}")
        pace.answered()
        sending.doubts, sending.state.sent = 0, batch[-1].stop
        sending.journal.save_state(sending.state)
        self._say_problem(uri, None)
        if batch[-1].kind == "end":
            self._finished(sending)
        return True

    def _failed(self, uri: str, problem: str) -> bool:
        self.paces[uri].failed(limits.ENDING_RETRY_SECONDS if self.hurry.is_set() else limits.LAST_RETRY_SECONDS)
        self._say_problem(uri, problem)
        return False

    def _say_problem(self, uri: str, problem: str | None) -> None:
        """Write down for the stages of a store's journals what is wrong with it."""
        for sending in self.held.values():
            if sending.opening["uri"] == uri and sending.state.problem != problem:
                sending.state.problem = problem
                sending.journal.save_state(sending.state)

    def _finished(self, sending: Sending) -> None:
        del self.held[sending.journal.name]
        if sending.own:
            self.own = None
        else:
            for note in sending.state.notes:
                say("note", note)
            say("sent", sending.journal.name)
            sending.journal.remove()
        sending.lock.close()

    def _batch(self, sending: Sending) -> list[Entry]:
        """Return the next entry, or as many as can go together."""
        batch: list[Entry] = []
        points = 0
        for entry in sending.journal.entries(sending.state.sent):
            if batch and (entry.kind != "metrics" or batch[0].kind != "metrics"):
                # An opening alone makes no run: a stage that records nothing leaves none.
                opened = len(batch) == 1 and batch[0].kind == "open"
                return [*batch, entry] if opened and entry.kind == "end" else batch
            batch.append(entry)
            points += len(entry.values.get("points", ())) if entry.kind == "metrics" else 0
            if points >= POINTS:
                return batch
        return [] if batch and batch[0].kind == "open" else batch

    def _store(self, uri: str) -> Store:
        if uri not in self.stores:
            # The journal keeps no password; the one in use now fits the same place.
            self.stores[uri] = Store(self.uri if without_password(self.uri) == uri else uri)
        return self.stores[uri]

    def _tell(self, sending: Sending, store: Store, batch: list[Entry]) -> None:
        entry, state = batch[0], sending.state
        if entry.kind == "open":
            if batch[-1].kind != "end":
                state.run_id, notes = store.open(entry.values, entry.at)
                state.notes += notes
            return
        try:
            self._add(sending, store, batch)
        except (Deleted, Lost):
            raise
        except Refused:
            store.require(state.run_id or "")
            raise

    def _add(self, sending: Sending, store: Store, batch: list[Entry]) -> None:
        """Tell what happened to a run that was begun."""
        entry, run_id = batch[0], sending.state.run_id or ""
        folder = sending.journal.folder
        if entry.kind == "metrics":
            points = [
                Point(key, value, at, step, entry.values["once"])
                for entry in batch
                for key, value, at, step in entry.values["points"]
            ]
            store.metrics(run_id, points)
        elif entry.kind == "tags":
            store.tags(run_id, entry.values)
        elif entry.kind == "note":
            store.note(run_id, entry.values["text"])
        elif entry.kind == "artifact":
            store.artifact(run_id, folder / entry.values["file"], entry.values["folder"])
        elif entry.kind == "model":
            model = folder / entry.values["folder"]
            store.model(run_id, entry.values, model, f"{sending.journal.name}:{entry.start}")
        elif entry.kind == "champion":
            store.champion(entry.values["registered"], entry.values["fingerprint"])
        elif entry.kind == "status":
            store.status(run_id, sending.opening, entry.values["status"], entry.at, entry.values.get("tags", {}))


def run_of(opening: dict[str, Any]) -> tuple[str, str]:
    """Return which run a journal tells of, and where it goes."""
    return opening.get("run_key", ""), opening.get("uri", "")


def described(batch: list[Entry]) -> str:
    """Return what a batch is, in a word or two."""
    entry = batch[0]
    name = entry.values.get("file") or entry.values.get("name") or entry.values.get("status") or ""
    return f"{entry.kind} {Path(name).name}".strip()


def say(event: str, text: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(json.dumps({event: text}) + "\n")
    sys.stdout.flush()


def listen(poster: Poster, lines: IO[str]) -> None:
    """Take the name of the stage's own journal, and end with the stage."""
    for line in lines:
        told = json.loads(line)
        if "journal" in told:
            poster.own = Path(told["journal"])
        if "hurry" in told:
            for pace in list(poster.paces.values()):
                pace.not_before = 0.0
            poster.hurry.set()
    # Also in the midst of a request: what is sent twice arrives once.
    os._exit(0)


def main() -> None:
    """Send until stdin ends; for `sync`, until nothing is left or a store is away."""
    # Ctrl-C is the stage's, which ends this process in its turn.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.loads(sys.stdin.readline())
    poster = Poster(Path(asked["root"]), asked["uri"])
    threading.Thread(target=listen, args=(poster, sys.stdin), name="stage-watch", daemon=True).start()
    if asked["sync"]:
        sys.exit(sync(poster))
    while True:
        if not poster.work():
            time.sleep(limits.POLL_SECONDS)


def sync(poster: Poster) -> int:
    """Send all that waits; return 1 where something is left."""
    while poster.waiting():
        if poster.work():
            continue
        away = {s.opening["uri"]: s.state.problem for s in poster.held.values() if poster.paces[s.opening["uri"]].hopeless()}
        if len(away) == len({s.opening["uri"] for s in poster.held.values()}):
            for uri, problem in away.items():
                say("away", f"{uri}: {problem}")
            return 1
        time.sleep(limits.POLL_SECONDS)
    return 0


if __name__ == "__main__":
    main()
