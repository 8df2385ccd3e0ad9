"""Archives unpacked without trusting them: a refused member refuses the archive.

No member may be absolute or hold `..`, be a link, a device or a pipe, or stand for the same file twice; modes and owners
are not taken over. Bytes are counted as they come out of the archive, whatever its headers say.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from trainyard.data.descriptor import Unpack
from trainyard.data.problems import printable
from trainyard.errors import IntegrityError

PIECE_BYTES = 2**20
LONGEST_NAME = 255
"""Bytes of one part of a path, as file systems have it."""
DEEPEST = 40
"""Folders of a path."""
RATIO_FREE_BYTES = 10 * 2**20
"""An archive may unpack to this much whatever its size: small files of zeros are no bomb."""
HEADER_BYTES = 2048
"""Of a tar archive, for each member, beside the content: headers, long names and padding."""


class _Budget:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path, limits: Unpack) -> None:
        self.archive = archive
        size = archive.stat().st_size
        self.by_ratio = int(max(RATIO_FREE_BYTES, size * limits.most_ratio))
        self.limits = limits
        self.bytes = 0
        self.members = 0

    def member(self) -> None:
        """Count a member."""
        self.members += 1
        if self.members > self.limits.most_members:
            raise self.refusal(f"has more than {self.limits.most_members:,} members")

    def spend(self, count: int) -> None:
        """Count bytes that came out."""
        self.bytes += count
        if self.bytes > self.limits.most_bytes:
            raise self.refusal(f"unpacks to more than {self.limits.most_bytes:,} bytes")
        if self.bytes > self.by_ratio:
            raise self.refusal(f"unpacks to more than {self.limits.most_ratio:g} times its size")

    def refusal(self, reason: str) -> IntegrityError:
        """Return the error for the whole archive."""
        return IntegrityError(
            f"{self.archive}: {printable(reason)}; refused, and nothing of it is kept: mend `unpack` in the descriptor if that "
            "is meant, or take another archive"
        )


class _Stream(io.RawIOBase):
    """The tar stream inside an archive, as tarfile reads it: counted, and never read whole for a header that says so."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self.file = file
        self.budget = budget
        self.most = budget.limits.most_bytes + HEADER_BYTES * (budget.limits.most_members + 10)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE_BYTES:
            raise self.budget.refusal(f"has a header of {size:,} bytes")
        content = self.file.read(size)
        if self.file.tell() > self.most:
            raise self.budget.refusal(f"unpacks to more than {self.budget.limits.most_bytes:,} bytes")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset < 0 or offset > self.most:
            raise self.budget.refusal("has a member that begins or ends outside of the archive")
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def unpack(archive: Path, folder: Path, limits: Unpack) -> None:
    """Unpack an archive below a folder.

    Args:
        archive: .tar.gz, .tgz, .tar, .zip, or .gz, which holds one file.
        folder: where `limits.into` goes; made here, and the caller deletes it where this raises.
        limits: of what comes out.

    Raises:
        IntegrityError: the archive is damaged, or holds a member that is refused.
        OSError: the disk is full or read-only.
    """
    budget = _Budget(archive, limits)
    target = folder / limits.into
    target.mkdir(parents=True, exist_ok=True)
    with _damage_named(archive):
        if not archive.stat().st_size:
            # To gzip, nothing at all is a whole file.
            raise EOFError("it is empty")
        if archive.name.endswith(".zip"):
            _unpack_zip(archive, target, budget)
        elif archive.name.endswith((".tar.gz", ".tgz")):
            with gzip.open(archive) as file:
                _unpack_tar(cast("IO[bytes]", file), target, budget)
        elif archive.name.endswith(".tar"):
            with archive.open("rb") as file:
                _unpack_tar(file, target, budget)
        else:
            budget.member()
            with gzip.open(archive) as file:
                _write(cast("IO[bytes]", file), _place(archive.name.removesuffix(".gz"), target, budget), budget)


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise IntegrityError(f"{archive}: is no whole archive ({error}); delete it, and it is fetched again") from None
    except (ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        # What tarfile and zipfile say of headers that no program writes.
        raise IntegrityError(f"{archive}: has headers that make no sense ({error}); refused") from None


def _unpack_tar(file: IO[bytes], target: Path, budget: _Budget) -> None:
    stream = cast("IO[bytes]", _Stream(file, budget))
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as tar:
        for member in tar:
            budget.member()
            # It keeps all it has read, for links, which are refused here.
            cast("Any", tar).members.clear()
            name = member.name
            if member.size < 0:
                raise budget.refusal(f"member {name!r} has a negative size")
            if member.issym() or member.islnk():
                raise budget.refusal(f"member {name!r} is a link")
            if member.isdir():
                _make_folder(name, target, budget)
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
                raise budget.refusal(f"member {name!r} is neither a plain file nor a folder")
            content = tar.extractfile(member)
            if content is None:
                raise budget.refusal(f"member {name!r} has no content")
            _write(content, _place(name, target, budget), budget, member.size)


def _unpack_zip(archive: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as whole:
        for member in whole.infolist():
            budget.member()
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise budget.refusal(f"member {member.filename!r} is a link")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise budget.refusal(f"member {member.filename!r} is neither a plain file nor a folder")
            if member.flag_bits & 0x1:
                raise budget.refusal(f"member {member.filename!r} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise budget.refusal(f"member {member.filename!r} is packed in a way other than deflate")
            if member.is_dir():
                _make_folder(member.filename, target, budget)
                continue
            with whole.open(member) as content:
                _write(content, _place(member.filename, target, budget), budget, member.file_size)


def _write(content: IO[bytes], path: Path, budget: _Budget, size: int | None = None) -> None:
    """Write a member; `size` is what its header says."""
    written = 0
    try:
        file = path.open("xb")
    except FileExistsError:
        raise budget.refusal(f"member {path.name!r} is there twice") from None
    with file:
        while piece := content.read(PIECE_BYTES):
            budget.spend(len(piece))
            written += len(piece)
            file.write(piece)
    if size is not None and written != size:
        raise budget.refusal(f"member {path.name!r} has {written:,} bytes, and its header says {size:,}")


def _make_folder(name: str, target: Path, budget: _Budget) -> None:
    if PurePosixPath(name).parts:
        path = _place(name, target, budget)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError:
            raise budget.refusal(f"member {name!r} is a file and a folder") from None


def _place(name: str, target: Path, budget: _Budget) -> Path:
    """Return where a member goes; the folders above it are made."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or "\0" in name or name[1:2] == ":":
        raise budget.refusal(f"member {name!r} has an absolute path, or one of another system")
    if ".." in path.parts:
        raise budget.refusal(f"member {name!r} leads out of the folder")
    if not path.parts or len(path.parts) > DEEPEST:
        raise budget.refusal(f"member {name[:80]!r} has a path of {len(path.parts)} parts")
    if any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME for part in path.parts):
        raise budget.refusal(f"member {name[:80]!r} has a name of more than {LONGEST_NAME} bytes")
    place = target / path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise budget.refusal(f"member {name!r} is below a file") from None
    return place
