"""A store of named files: a folder, also one that several nodes share, or an object store.

Opened by its address: a path, file://, s3://, gs://, or anything else that pyarrow or fsspec opens. Whatever is written
is there as a whole or not at all, and lasts through a power cut. Nothing that is read is trusted: who wrote a file states
its sha256 elsewhere, and whoever reads it compares.

An object store that is down, slow or refuses is a ServiceError after a bounded time; a folder that is full or read-only is
an OSError, as any folder of this machine's. No message holds a password or a key.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote

from trainyard.errors import InputError
from trainyard.files import flush

CHUNK_BYTES = 2**20
Save = Callable[[Any], None]


class Store(Protocol):
    """Files by their names, which may hold slashes, below one address."""

    address: str
    """For people: without user, password and query."""

    def names(self, name: str = "") -> list[str]:
        """Return what lies right below a name, in order; nothing where there is nothing."""

    def sizes(self, name: str = "") -> dict[str, int]:
        """Return the files right below a name, in order, with how many bytes each has."""

    def read(self, name: str) -> bytes:
        """Return a small file. FileNotFoundError: there is none."""

    def size(self, name: str) -> int | None:
        """Return how many bytes a file has, None where there is none."""

    def write(self, name: str, save: Save) -> None:
        """Let `save` write a file; it appears, or takes the place of the one before, when all of it is there."""

    def fetch(self, name: str, path: Path, told: Callable[[], object] | None = None) -> str:
        """Copy a file to this machine and return the sha256 of what came. FileNotFoundError: there is none.

        `told` is called whenever a piece of it has come.
        """

    def delete(self, name: str) -> None:
        """Delete a file, or all that lies below a name; nothing to delete is no error."""


def open_store(place: str | Path, *parts: str) -> Store:
    """Return the store at an address, or below it.

    Raises:
        InputError: it is no address of a store, or it is relative.
        ServiceError: it cannot be opened.
    """
    address = str(place)
    scheme, _, rest = address.partition("://")
    if not rest:
        folder = Path(address)
    elif scheme == "file":
        folder = Path(unquote(rest))
    else:
        from trainyard.training.object_store import ObjectStore

        return ObjectStore(address, *parts)
    if not folder.is_absolute():
        raise InputError(f"cluster.storage: {address} is relative; write the path from / on, or <scheme>://<place>")
    return FolderStore(folder.joinpath(*parts))


def put(store: Store, name: str, content: bytes) -> None:
    """Write a small file."""
    store.write(name, lambda file: file.write(content) and None)


class Hashed:
    """A file to write to, which knows the sha256 and the length of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        """Write all of some bytes."""
        view = memoryview(content).cast("B")
        self.file.write(view)
        self.digest.update(view)
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Hand on what is buffered."""
        self.file.flush()


class FolderStore:
    """A folder of this machine, or one that several machines see at the same path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)

    def path(self, name: str) -> Path:
        """Return where a file lies; it may be read there, and memory-mapped."""
        return self.folder / name

    def names(self, name: str = "") -> list[str]:
        try:
            found = os.listdir(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry for entry in found if not entry.startswith("."))

    def sizes(self, name: str = "") -> dict[str, int]:
        found = {entry: self.size(f"{name}/{entry}" if name else entry) for entry in self.names(name)}
        return {entry: size for entry, size in found.items() if size is not None}

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def size(self, name: str) -> int | None:
        path = self.path(name)
        return path.stat().st_size if path.is_file() else None

    def write(self, name: str, save: Save) -> None:
        path = self.path(name)
        _make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                save(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            flush(path.parent)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno is not None:
                error.filename = error.filename or str(path)
            raise

    def fetch(self, name: str, path: Path, told: Callable[[], object] | None = None) -> str:
        with self.path(name).open("rb") as source, path.open("wb") as target:
            return copy(source, target, told)

    def delete(self, name: str) -> None:
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, so that they last through a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def copy(source: Any, target: Any, told: Callable[[], object] | None = None) -> str:
    """Copy what is left of a file to another one, call `told` after each piece, and return its sha256."""
    digest = hashlib.sha256()
    while piece := source.read(CHUNK_BYTES):
        target.write(piece)
        digest.update(piece)
        if told is not None:
            told()
    return digest.hexdigest()
