"""A published data set, from its descriptor to files that a source reads; fetched and unpacked once, verified each time.

    <downloads>/.lock-<name>
    <downloads>/<name>/<file>                      as it was published
    <downloads>/<name>/unpacked-<key>/listing.json       sha256 of each file beside it
    <downloads>/<name>/unpacked-<key>/<name>/...         where an archive is among the files

The downloads are in TRAINYARD_DOWNLOADS, or in .trainyard/downloads of the project. A folder like it, here or on a web
server, can be TRAINYARD_MIRROR: then nothing else is asked.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.data.arrange import arrange
from trainyard.data.descriptor import Descriptor, PublishedFile, human_bytes, is_web_address, plain
from trainyard.data.download import PATIENCE, Patience, download, mismatch, trusted_mirror
from trainyard.data.packed import file_sha256
from trainyard.data.unpack import unpack
from trainyard.errors import InputError, IntegrityError, MachineError, ServiceError, TrainyardError
from trainyard.file_lock import hold
from trainyard.files import write_whole
from trainyard.provenance import scratch_root

Progress = Callable[[str], None]
LISTING = "listing.json"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
SPARE_BYTES = 50 * 10**6
"""That a disk must have left beside a file that is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Where a source finds a data set."""

    root: Path
    path: str
    """Relative to the root; its first part is the name of the data set."""


def downloads_folder() -> Path:
    """Return where fetched data are kept, which all recipes share."""
    named = os.environ.get("TRAINYARD_DOWNLOADS")
    return Path(named).expanduser().resolve() if named else scratch_root() / ".trainyard" / "downloads"


def is_fetched(descriptor: Descriptor, downloads: Path) -> bool:
    """Whether everything is there by its size, without looking into it."""
    folder = downloads / descriptor.name
    if descriptor.unpacks and (folder / f"unpacked-{descriptor.key()}").is_dir():
        return True
    return all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.bytes for file in descriptor.files
    )


def fetch(
    descriptor: Descriptor, downloads: Path, *, progress: Progress | None = None, patience: Patience = PATIENCE
) -> Fetched:
    """Return where a data set is, after fetching and unpacking what is missing or is not what was published.

    Args:
        descriptor: what it is, and where.
        downloads: where it goes; shared by all recipes and processes.
        progress: told of everything that takes long, and of the licence.
        patience: with the servers.

    Raises:
        ServiceError: a file is served nowhere.
        IntegrityError: other bytes are served than were published, or an archive holds what it must not.
        MachineError: the disk is full or read-only; what came so far is kept.
    """
    tell = progress or _silent
    folder = downloads / descriptor.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(downloads, descriptor.name, tell):
            if not descriptor.unpacks:
                _fetch_files(descriptor, folder, tell, patience)
                return Fetched(root=downloads, path=_joined(descriptor))
            tree = folder / f"unpacked-{descriptor.key()}"
            if not _intact(tree, tell):
                _fetch_files(descriptor, folder, tell, patience)
                _unpack_all(descriptor, folder, tree, tell)
            return Fetched(root=tree, path=_joined(descriptor))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise _disk_error(folder, error.strerror or str(error)) from error


def _joined(descriptor: Descriptor) -> str:
    return descriptor.name if descriptor.reads == "." else f"{descriptor.name}/{descriptor.reads}"


def _fetch_files(descriptor: Descriptor, folder: Path, tell: Progress, patience: Patience) -> None:
    missing = []
    for file in descriptor.files:
        path = folder / file.name
        wrong = mismatch(path, file) if path.is_file() else "no such file"
        if wrong and path.is_file():
            tell(f"{path}: is not the published file ({wrong}); fetches it again")
        if wrong:
            missing.append(file)
    if not missing:
        return
    here = sum(_part_bytes(folder, file) for file in missing)
    size = human_bytes(sum(file.bytes for file in missing)) + (f", {human_bytes(here)} of it are here" if here else "")
    tell(f"fetches {descriptor.name} ({len(missing)} files, {size}) into {folder}")
    tell(f"licence of {descriptor.name}: {plain(descriptor.licence.name)}, {descriptor.licence.url}")
    for file in missing:
        _check_room(folder, file)
        _fetch_file(descriptor, file, folder / file.name, tell, patience)


def _fetch_file(descriptor: Descriptor, file: PublishedFile, target: Path, tell: Progress, patience: Patience) -> None:
    """Bring one file from the mirror, or else from where it was published."""
    mirror = os.environ.get("TRAINYARD_MIRROR", "").rstrip("/")
    try:
        if mirror and "://" not in mirror:
            _copy(Path(mirror).expanduser() / descriptor.name / file.name, file, target)
            return
        if mirror and not is_web_address(mirror):
            raise InputError(f"TRAINYARD_MIRROR {mirror}: is neither a folder nor an http or https address; give one of them")
        urls = [f"{mirror}/{descriptor.name}/{file.name}"] if mirror else file.urls
        download(file, urls, target, trusted=trusted_mirror(mirror), patience=patience, progress=tell)
    except (ServiceError, IntegrityError) as error:
        raise type(error)(f"{error}. Ways out: {_ways_out(descriptor, file, target, mirror)}") from None


def _ways_out(descriptor: Descriptor, file: PublishedFile, target: Path, mirror: str) -> str:
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    variable = (
        "correct or unset TRAINYARD_MIRROR"
        if mirror
        else f"set TRAINYARD_MIRROR to a folder or web address that holds {descriptor.name}/{file.name}"
    )
    return f"{variable}; or put the file ({file.bytes:,} bytes, {kind} {expected}) at {target}; then run the same command again"


def _copy(source: Path, file: PublishedFile, target: Path) -> None:
    """Copy a file from a mirror that is a folder, and keep it only if it is the published one."""
    part = target.with_name(f"{target.name}.part")
    try:
        if not source.is_file():
            raise ServiceError(f"{source}: the mirror has no such file; put it there")
        with source.open("rb"):
            same_size = source.stat().st_size == file.bytes
    except OSError as error:
        raise ServiceError(f"{source}: the mirror cannot be read ({error.strerror}); make it readable for this user") from None
    if same_size:
        shutil.copyfile(source, part)
    wrong = mismatch(part if same_size else source, file)
    if wrong:
        part.unlink(missing_ok=True)
        raise IntegrityError(f"{source}: holds other bytes than were published: {wrong}; nothing of it is kept")
    with part.open("rb") as copied:
        os.fsync(copied.fileno())
    os.replace(part, target)


def _unpack_all(descriptor: Descriptor, folder: Path, tree: Path, tell: Progress) -> None:
    """Unpack and arrange aside, list what came out, and put it in place in one step."""
    aside = folder / f".unpacking-{descriptor.key()}"
    shutil.rmtree(aside, ignore_errors=True)
    inside = aside / descriptor.name
    try:
        inside.mkdir(parents=True)
        for file in descriptor.files:
            if file.unpack is None:
                _link(folder / file.name, inside / file.name)
                continue
            tell(f"unpacks {file.name}")
            unpack(folder / file.name, inside, file.unpack)
        if descriptor.arrange is not None:
            arrange(descriptor.name, inside, descriptor.arrange)
        listing = {name: file_sha256(inside / name) for name in _files_below(inside)}
        write_whole(aside / LISTING, json.dumps(listing, indent=0).encode())
        shutil.rmtree(tree, ignore_errors=True)
        os.replace(aside, tree)
    except (OSError, TrainyardError):
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:
        # On exFAT and some network file systems there are no links.
        shutil.copyfile(file, place)


def _intact(tree: Path, tell: Progress) -> bool:
    """Whether all files that were unpacked are there, and are what they were."""
    if not tree.is_dir():
        return False
    try:
        listing = json.loads((tree / LISTING).read_bytes())
        (inside,) = (entry for entry in tree.iterdir() if entry.is_dir())
        if sorted(listing) == _files_below(inside) and all(
            file_sha256(inside / name) == expected for name, expected in listing.items()
        ):
            return True
    except (OSError, ValueError):
        pass
    tell(f"{tree}: is not what was unpacked; unpacks it again")
    return False


def _files_below(folder: Path) -> list[str]:
    """Return the paths of all files, relative to a folder, sorted."""
    return sorted(str(Path(where, name).relative_to(folder)) for where, _, names in os.walk(folder) for name in names)


@contextmanager
def _alone(downloads: Path, name: str, tell: Progress) -> Iterator[None]:
    """Hold the data set's lock, which the kernel gives back however this process ends."""
    with hold(downloads / f".lock-{name}", lambda _: tell(f"waits for another process that fetches {name}")):
        yield


def _check_room(folder: Path, file: PublishedFile) -> None:
    missing = max(0, file.bytes - _part_bytes(folder, file))
    free = shutil.disk_usage(folder).free
    if free < missing + min(SPARE_BYTES, missing):
        raise _disk_error(folder, f"{file.name} needs {missing:,} bytes more")


def _part_bytes(folder: Path, file: PublishedFile) -> int:
    part = folder / f"{file.name}.part"
    return part.stat().st_size if part.exists() else 0


def _disk_error(folder: Path, cause: str) -> MachineError:
    while not folder.exists():
        folder = folder.parent
    return MachineError(
        f"{folder}: cannot be written ({cause}; {shutil.disk_usage(folder).free:,} bytes free); make room there, or set "
        "TRAINYARD_DOWNLOADS to a folder elsewhere, and run the same command again: what came so far is kept"
    )


def _silent(text: str) -> None:
    pass
