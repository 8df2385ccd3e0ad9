"""One published file, from the web to the disk: resumed where it stopped, retried, bounded, and kept only if its hash is right.

    <target>.part        what came so far; it survives a kill, and the next run asks for the rest (HTTP Range, RFC 9110, 14)
    <target>.part.etag   the URL and the server's name for the version that it came from, for If-Range

The bytes are those of the descriptor or none: what is served may change, the result cannot.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, ProtocolError

from trainyard.data.addresses import check_url, guarded_session, host_and_port, shown_url
from trainyard.data.descriptor import PublishedFile, human_bytes
from trainyard.data.problems import printable
from trainyard.errors import IntegrityError, ServiceError
from trainyard.files import flush, write_whole

PIECE_BYTES = 2**18
MOST_REDIRECTS = 8
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which the same server may do better."""
ENOUGH_BYTES = 2**20
"""A connection that brought this much before it was cut does not count as an attempt in vain."""
PROGRESS_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 30.0
"""That a server's Retry-After is heeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server is waited for."""

    connect_seconds: float = 10.0
    silence_seconds: float = 30.0
    """Without a byte."""
    slow_seconds: float = 60.0
    slowest: float = 1000.0
    """Bytes a second, over `slow_seconds`, below which the connection is given up."""
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Seconds before each further attempt that follows one in vain."""


PATIENCE = Patience()


class PassingError(Exception):
    """It may work the next time."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class UrlError(Exception):
    """This URL does not give the file."""


def download(
    file: PublishedFile,
    urls: Sequence[str],
    target: Path,
    *,
    trusted: str | None = None,
    patience: Patience = PATIENCE,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Bring a file from the first URL that serves its bytes.

    Args:
        file: what it must be.
        urls: where it is served.
        target: where it goes; its folder exists.
        trusted: host:port of the user's own mirror, which may have an address that is not public.
        patience: with the servers.
        progress: told of it about every five seconds.

    Raises:
        ServiceError: no URL answers with the file; what came so far is kept for the next run.
        IntegrityError: other bytes than the published ones, or a redirect to where none may lead; nothing is kept.
        OSError: the disk is full or read-only; what came so far is kept.
    """
    failures: list[str] = []
    refusal: IntegrityError | None = None
    for url in urls:
        try:
            _from_one(file, url, target, guarded_session(trusted), trusted, patience, progress)
            return
        except UrlError as error:
            failures.append(f"{shown_url(url)}: {error}")
        except IntegrityError as error:
            failures.append(str(error))
            refusal = error
    if refusal is not None:
        raise IntegrityError("; ".join(failures))
    raise ServiceError("; ".join(failures))


def mismatch(path: Path, file: PublishedFile) -> str:
    """Return how a file on the disk differs from the published one, or nothing where it is that file."""
    size = path.stat().st_size
    if size != file.bytes:
        return f"{size:,} bytes, expected {file.bytes:,}"
    with path.open("rb") as content:
        for name, expected in (("sha256", file.sha256), ("md5", file.md5)):
            if expected is not None:
                content.seek(0)
                found = hashlib.file_digest(content, name).hexdigest()
                if found != expected:
                    return f"{name} {found}, expected {expected}"
    return ""


def _from_one(
    file: PublishedFile,
    url: str,
    target: Path,
    session: requests.Session,
    trusted: str | None,
    patience: Patience,
    progress: Callable[[str], None] | None,
) -> None:
    """Bring the file from one URL; bytes of an earlier run are given up once, where they turn out not to fit."""
    part = target.with_name(f"{target.name}.part")
    while True:
        continued = _size(part) > 0
        with session:
            _insist(file, url, part, session, trusted, patience, progress)
        wrong = mismatch(part, file)
        if not wrong:
            os.replace(part, target)
            _etag_file(part).unlink(missing_ok=True)
            flush(target.parent)
            return
        _forget(part)
        if not continued:
            raise IntegrityError(f"{shown_url(url)}: serves other bytes than were published: {wrong}; they were deleted")


def _insist(
    file: PublishedFile,
    url: str,
    part: Path,
    session: requests.Session,
    trusted: str | None,
    patience: Patience,
    progress: Callable[[str], None] | None,
) -> None:
    """Ask until all bytes are there, with longer and longer pauses between attempts that bring nothing."""
    in_vain = 0
    while True:
        before = _size(part)
        try:
            _receive(file, url, part, session, trusted, patience, progress)
            return
        except PassingError as error:
            in_vain = 0 if _size(part) - before >= ENOUGH_BYTES else in_vain + 1
            if in_vain > len(patience.pauses):
                raise UrlError(f"{error} ({in_vain} attempts)") from None
            time.sleep(max(patience.pauses[in_vain - 1] if in_vain else 0.0, error.wait_seconds))


def _receive(
    file: PublishedFile,
    url: str,
    part: Path,
    session: requests.Session,
    trusted: str | None,
    patience: Patience,
    progress: Callable[[str], None] | None,
) -> None:
    """Ask once for the bytes that are missing, and append them to the part."""
    if _size(part) > file.bytes:
        _forget(part)
    have = _size(part)
    if have == file.bytes:
        return
    # Without `identity`, requests asks for the file packed once more, and a server's packing is not what was hashed.
    headers = {"Accept-Encoding": "identity", "User-Agent": "trainyard"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag := _known_etag(part, url):
            headers["If-Range"] = etag
    try:
        response = _open(url, headers, session, trusted, patience)
        with response:
            start = _start(response, file, part, have, url)
            _append(response, file, part, start, url, patience, progress)
    except (requests.RequestException, HTTPError, socket.gaierror) as error:
        raise PassingError(_cause(error)) from None


def _open(
    url: str, headers: dict[str, str], session: requests.Session, trusted: str | None, patience: Patience
) -> requests.Response:
    """Return the answer at the end of all redirects, each of which is checked before it is followed."""
    for _ in range(MOST_REDIRECTS):
        check_url(url, trusted)
        timeout = (patience.connect_seconds, patience.silence_seconds)
        try:
            response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout)
            location = response.headers.get("location")
            if response.status_code not in (301, 302, 303, 307, 308) or location is None:
                return response
            response.close()
            url = urljoin(url, location)
            host_and_port(url)
        except ValueError as error:
            # Of the libraries too, which look at where a redirect leads though they are told not to follow it.
            raise UrlError(f"sends one on to what is no address ({printable(str(error))[:200]})") from None
    raise UrlError(f"more than {MOST_REDIRECTS} redirects, the last to {shown_url(url)}")


def _start(response: requests.Response, file: PublishedFile, part: Path, have: int, url: str) -> int:
    """Return at which byte of the file the answer begins, or say why it cannot be used."""
    code = response.status_code
    if code in PASSING:
        raise PassingError(f"answers {code} {printable(response.reason or '')}", _retry_after(response))
    if code == 416 or (code == 206 and not have):
        _forget(part)
        raise PassingError(f"answers {code} to a request for bytes {have:,} and on")
    if code not in (200, 206):
        raise UrlError(f"answers {code} {printable(response.reason or '')}")
    start = 0
    if code == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("content-range", "").strip())
        if found is None or int(found[1]) != have or found[3] not in ("*", str(file.bytes)):
            _forget(part)
            raise PassingError("sends other bytes than were asked for")
        start = have
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) != file.bytes - start:
        _forget(part)
        raise IntegrityError(
            f"{shown_url(url)}: serves another file than was published: {int(length) + start:,} bytes, expected "
            f"{file.bytes:,} with {_published_hash(file)}{_page(response)}"
        )
    return start


def _append(
    response: requests.Response,
    file: PublishedFile,
    part: Path,
    start: int,
    url: str,
    patience: Patience,
    progress: Callable[[str], None] | None,
) -> None:
    """Write what comes behind the first `start` bytes of the part."""
    if start == 0:
        # A server that ignored the range sends all of it: what was there must not stay in front.
        _forget(part)
        _remember_etag(part, url, response)
    meter = _Meter(file, start, patience, progress)
    with part.open("ab") as out:
        while meter.have < file.bytes:
            # Whatever has come, and not a full piece: a server that drips is seen at once.
            try:
                piece: bytes = response.raw.read1(PIECE_BYTES)
            except ProtocolError:
                break
            if not piece:
                break
            if meter.have + len(piece) > file.bytes:
                _forget(part)
                raise IntegrityError(
                    f"{shown_url(url)}: serves another file than was published: more than {file.bytes:,} bytes, expected "
                    f"{_published_hash(file)}; they were deleted"
                )
            out.write(piece)
            meter.add(len(piece))
        out.flush()
        os.fsync(out.fileno())
    if meter.have < file.bytes:
        said = f"ends after {meter.have:,} of {file.bytes:,} bytes"
        if start == 0 and (page := _page(response)):
            _forget(part)
            raise UrlError(f"{said}{page}")
        raise PassingError(said)


class _Meter:
    """Counts bytes, tells of them, and gives up a connection that drips."""

    def __init__(self, file: PublishedFile, start: int, patience: Patience, progress: Callable[[str], None] | None) -> None:
        self.file = file
        self.start = start
        self.have = start
        self.patience = patience
        self.progress = progress
        self.began = self.told = self.watched = time.monotonic()
        self.watched_have = start

    def add(self, count: int) -> None:
        """Count bytes that came."""
        self.have += count
        now = time.monotonic()
        if now - self.watched >= self.patience.slow_seconds:
            speed = (self.have - self.watched_have) / (now - self.watched)
            if speed < self.patience.slowest:
                raise PassingError(f"sends {speed:,.0f} bytes a second")
            self.watched, self.watched_have = now, self.have
        if self.progress is not None and now - self.told >= PROGRESS_SECONDS:
            self.told = now
            speed = (self.have - self.start) / (now - self.began)
            left = round((self.file.bytes - self.have) / max(speed, 1.0))
            self.progress(
                f"{self.file.name}: {human_bytes(self.have)} of {human_bytes(self.file.bytes)}, {human_bytes(speed)}/s, "
                f"{left // 60}:{left % 60:02d} left"
            )


def _page(response: requests.Response) -> str:
    """Return words on what is served where that is a page and no file."""
    is_page = response.headers.get("content-type", "").lower().startswith("text/html")
    return ", of a web page: it may ask to log in, or say what is wrong" if is_page else ""


def _published_hash(file: PublishedFile) -> str:
    return f"sha256 {file.sha256}" if file.sha256 else f"md5 {file.md5}"


def _cause(error: Exception) -> str:
    """Return the innermost reason, which the libraries wrap several times."""
    reason: Any = error
    while (inner := getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)) and isinstance(
        inner, Exception
    ):
        reason = inner
    if isinstance(reason, socket.gaierror):
        return "its name has no address (no network?)"
    return printable(str(reason).rpartition("object at 0x")[2].partition(">: ")[2] or str(reason) or type(reason).__name__)


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), LONGEST_WAIT_SECONDS) if value.isdecimal() else 0.0


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _remember_etag(part: Path, url: str, response: requests.Response) -> None:
    etag = response.headers.get("etag", "")
    # A weak one does not promise the same bytes (RFC 9110, 8.8.1).
    if etag.startswith('"') and len(etag) < 200:
        write_whole(_etag_file(part), f"{url}\n{etag}".encode())


def _known_etag(part: Path, url: str) -> str | None:
    try:
        known, etag = _etag_file(part).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return None
    return etag if known == url else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def trusted_mirror(mirror: str | None) -> str | None:
    """Return host:port of a mirror on the web, or None."""
    return host_and_port(mirror) if mirror and mirror.startswith(("http://", "https://")) else None
