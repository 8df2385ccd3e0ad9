"""What a node of a cluster says of itself before a training: runs there, imports no Ray and no torch, and changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from trainyard.errors import IntegrityError, TrainyardError
from trainyard.masking import headline_of
from trainyard.training.versions import versions

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Variables that say through which network interface workers find each other."""
CONNECT_SECONDS = 2.0
"""How long what a node is to reach may take to accept a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every node is asked."""

    head: str
    """Host of the cluster's head."""
    data: tuple[tuple[str, Path, str], ...] = ()
    """(recipe, folder, hash) of packed data."""
    storage: str | None = None
    """`cluster.storage`."""
    tracking: tuple[str, int] | None = None
    """Host and port of the tracking server, where it is one."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What workers are given: a store's credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a node answers."""

    host: str
    versions: dict[str, str]
    data: dict[str, str]
    """By recipe: same, other, missing."""
    storage: str
    """Why it cannot be used; empty where it can, or there is none."""
    tracking: str
    """The same of the tracking server."""
    memory: tuple[int, int]
    """Bytes free, and in all."""
    disk: tuple[int, int]
    """The same, where temporary files and fetched data go: of the one with less room."""
    shared_memory: tuple[int, int]
    """The same of /dev/shm; zeros where there is none."""
    gpus: tuple[tuple[str, int, int], ...]
    """Of each card: its name, bytes free, and in all."""
    interface: str
    """Through which it reaches the head; empty where there is no way."""
    address: str
    """Its own on it."""
    chosen: str
    """GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, where it is set to an interface that the node has not."""


class Probe:
    """Answers for a node. Ray makes one on each."""

    def look(self, question: Question) -> Facts:
        """Return what there is to say."""
        from trainyard.training.node_cache import cache_folder

        os.environ.update(question.environment)
        interface, address = towards(question.head)
        return Facts(
            host=socket.gethostname(),
            versions=versions(),
            data={name: _seen(folder, sha256) for name, folder, sha256 in question.data},
            storage=_usable(question.storage) if question.storage else "",
            tracking=_reached(question.tracking) if question.tracking else "",
            memory=_memory(),
            disk=min(_room(Path(tempfile.gettempdir())), _room(cache_folder())),
            shared_memory=_room(Path("/dev/shm")) if Path("/dev/shm").is_dir() else (0, 0),
            gpus=_gpus(),
            interface=interface,
            address=address,
            chosen=_absent_interface(),
        )

    def clock(self) -> float:
        """Return the node's time, in seconds since 1970."""
        return time.time()


def interface_of(address: str) -> str | None:
    """Return the network interface that has an IP address, or None where none has."""
    name: str
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.family in (socket.AF_INET, socket.AF_INET6) and item.address == address for item in addresses):
            return name
    return None


def towards(host: str) -> tuple[str, str]:
    """Return through which interface of this machine, and from which address, a host is reached; empty where it is not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing: it asks for the route
            own = str(probe.getsockname()[0])
        except OSError:
            return "", ""
    return interface_of(own) or "?", own


def _seen(folder: Path, sha256: str) -> str:
    if not (folder / "card.json").is_file():
        return "missing"
    from trainyard.data.packed import read_card

    try:
        return "same" if read_card(folder).sha256 == sha256 else "other"
    except (IntegrityError, OSError):
        return "other"


def _usable(storage: str) -> str:
    from trainyard.training.store import FolderStore, open_store

    try:
        store = open_store(storage)
        if isinstance(store, FolderStore) and not store.folder.is_dir():
            return "is no folder there"
        store.names()
    except (TrainyardError, OSError) as error:
        return headline_of(error)
    return ""


def _reached(place: tuple[str, int]) -> str:
    try:
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return str(error)
    return ""


def _memory() -> tuple[int, int]:
    found = psutil.virtual_memory()
    return found.available, found.total


def _room(place: Path) -> tuple[int, int]:
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    found = shutil.disk_usage(there)
    return found.free, found.total


def _gpus() -> tuple[tuple[str, int, int], ...]:
    with suppress(Exception):  # no library, no driver, no card: its errors have no common base without it
        import pynvml

        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        memories = [pynvml.nvmlDeviceGetMemoryInfo(card) for card in cards]
        names = [_text(pynvml.nvmlDeviceGetName(card)) for card in cards]
        return tuple((name, int(found.free), int(found.total)) for name, found in zip(names, memories, strict=True))
    return ()


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _absent_interface() -> str:
    has = psutil.net_if_addrs()
    for variable in INTERFACES:
        # NCCL takes beginnings of names and lists of them, too; only a plain name is judged.
        if (name := os.environ.get(variable, "")) and name.isalnum() and not any(own.startswith(name) for own in has):
            return f"{variable}={name}"
    return ""
