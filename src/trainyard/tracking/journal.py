"""The spool: what a stage has to tell the tracking store, line by line on this disk, and how far it was sent.

.trainyard/tracking/<time>-<stage>-<recipe>/journal.jsonl   one entry a line, each on the disk before the stage goes on
                                            state.json      how far they were sent, and what stands in the way
                                            files/          the artifacts, as they were
                                            owner.lock      held by the stage: the kernel gives it back however it ends
                                            sender.lock     held by who sends
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from trainyard.file_lock import take
from trainyard.files import flush, write_whole

COPIED_BYTES = 16 * 2**20
"""Larger artifacts are linked, not copied: they are weights, which stages replace and never change in place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to send."""

    kind: str
    """open, status, tags, note, metrics, artifact, model, champion or end."""
    at: int
    """Milliseconds since 1970 when it happened, which is what the store is told."""
    values: dict[str, Any]
    start: int = 0
    """Its place in the journal, in bytes; with the journal's name it names the entry."""
    stop: int = 0


@dataclass(slots=True)
class State:
    """How far a journal was sent."""

    sent: int = 0
    """Bytes."""
    run_id: str | None = None
    """The store's own name of the run, once known."""
    problem: str | None = None
    """Why nothing can be sent now."""
    notes: list[str] = field(default_factory=list)
    """What the store refused for good."""
    deleted: bool = False
    """The run was deleted there, so that nothing more of it is taken."""


def spool_folder(root: Path) -> Path:
    """Return where the journals of a project are."""
    return root / ".trainyard" / "tracking"


def journals(root: Path) -> list[Path]:
    """Return the folders of all journals, oldest first."""
    return sorted(path for path in spool_folder(root).glob("[0-9]*") if path.is_dir())


def sweep(root: Path) -> None:
    """Delete journals whose stages were killed before they had begun."""
    for path in spool_folder(root).glob(".new-*"):
        lock = _locked(path / "owner.lock") if (path / "owner.lock").exists() else None
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            lock.close()


class Journal:
    """The spool of one stage."""

    def __init__(self, folder: Path, owner: IO[str] | None) -> None:
        self.folder = folder
        self._owner = owner
        self._writing = threading.Lock()

    @classmethod
    def create(cls, root: Path, stage: str, recipe: str, opening: dict[str, Any]) -> Journal:
        """Make a journal that this process owns, with its first entry.

        Raises:
            OSError: the disk is full or read-only.
        """
        parent = spool_folder(root)
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{time.time_ns():020d}-{stage}-{recipe}"
        new = parent / f".new-{name}"
        new.mkdir(mode=0o700)
        owner = _locked(new / "owner.lock")
        journal = cls(new, owner)
        journal.append("open", opening)
        # Under its name only once it is held and begun, so that nobody takes it for a killed one's.
        os.replace(new, parent / name)
        flush(parent)
        journal.folder = parent / name
        return journal

    @classmethod
    def adopt(cls, folder: Path) -> Journal | None:
        """Return the journal of a stage that is gone, or None while its owner or another heir holds it."""
        owner = _locked(folder / "owner.lock")
        return cls(folder, owner) if owner else None

    @property
    def path(self) -> Path:
        """The file of entries."""
        return self.folder / "journal.jsonl"

    @property
    def name(self) -> str:
        """Unique in this project."""
        return self.folder.name

    def append(self, kind: str, values: dict[str, Any], at: int | None = None) -> None:
        """Add an entry, and return once it is on the disk.

        Raises:
            OSError: the disk is full or broken; what was there before is whole.
        """
        line = json.dumps({"kind": kind, "at": now() if at is None else at, "values": values}).encode() + b"\n"
        with self._writing, self.path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # What a killed process left of a line stays a line of its own.
                    line = b"\n" + line
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise

    def entries(self, position: int = 0) -> Iterator[Entry]:
        """Yield the whole entries from a position on; a torn line waits for its end, or is passed over."""
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    start, position = position, position + len(line)
                    with suppress(ValueError, TypeError):
                        yield Entry(**json.loads(line), start=start, stop=position)
        except FileNotFoundError:
            return

    def opening(self) -> dict[str, Any]:
        """Return what the first entry says: whose run it is, and where it goes."""
        return next((entry.values for entry in self.entries() if entry.kind == "open"), {})

    def readdress(self, **changes: Any) -> None:
        """Say in the first entry that it goes elsewhere; nothing counts as sent.

        Raises:
            OSError: the disk is full; what was there before is whole.
        """
        (self.folder / "state.json").unlink(missing_ok=True)
        first, *rest = self.path.read_bytes().splitlines(keepends=True)
        opening = json.loads(first)
        opening["values"] |= changes
        write_whole(self.path, b"".join([json.dumps(opening).encode() + b"\n", *rest]))

    def ended(self) -> bool:
        """Return whether its stage said that nothing more comes."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
                line = file.read().splitlines(keepends=True)[-1:]
            return bool(line) and line[0].endswith(b"\n") and json.loads(line[0]).get("kind") == "end"
        except (OSError, ValueError, AttributeError):
            return False

    def add_file(self, path: Path) -> str:
        """Keep a file as it is now, and return its place in the journal's folder.

        Raises:
            OSError: it cannot be read, or the disk is full.
        """
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        place = files / str(len(list(files.iterdir()))) / path.name
        place.parent.mkdir()
        if path.stat().st_size > COPIED_BYTES:
            with suppress(OSError):  # another file system, or one without links
                os.link(path, place)
                return str(place.relative_to(self.folder))
        shutil.copyfile(path, place)
        return str(place.relative_to(self.folder))

    def add_folder(self, path: Path, names: Iterable[str]) -> str:
        """Keep files and folders of a folder as they are now, side by side, and return their place in the journal's folder.

        Raises:
            OSError: one cannot be read, or the disk is full.
        """
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        place = files / str(len(list(files.iterdir()))) / path.name
        place.mkdir(parents=True)
        for name in names:
            if (path / name).is_dir():
                shutil.copytree(path / name, place / name)
            else:
                shutil.copyfile(path / name, place / name)
        return str(place.relative_to(self.folder))

    def load_state(self) -> State:
        """Return how far it was sent. A file that is torn counts as none: what is sent twice arrives once."""
        try:
            return State(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return State()

    def save_state(self, state: State) -> None:
        """Remember how far it was sent."""
        with suppress(OSError):  # A full disk: what is sent twice arrives once.
            write_whole(self.folder / "state.json", json.dumps(asdict(state)).encode())

    def complete(self) -> bool:
        """Return whether all of it was sent and nothing more comes."""
        return not any(True for _ in self.entries(self.load_state().sent)) and self.ended()

    def release(self) -> None:
        """Give up the ownership; whoever looks next sends what is left."""
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def remove(self) -> None:
        """Delete what was sent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def sender_lock(self) -> IO[str] | None:
        """Return the right to send it, or None while another process has that."""
        return _locked(self.folder / "sender.lock")


def now() -> int:
    """Return milliseconds since 1970."""
    return int(time.time() * 1000)


def _locked(path: Path) -> IO[str] | None:
    try:
        file = path.open("a")
    except OSError:
        return None
    # One that cannot be locked at all may be another's.
    with suppress(OSError):
        if take(file):
            return file
    file.close()
    return None
