"""Files in an object store, or in any other file system that pyarrow or fsspec opens, with a bound on every wait.

S3-compatible stores take their settings from the environment, as other programs do: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_PROFILE, and AWS_ENDPOINT_URL for one that is not Amazon's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from trainyard.errors import InputError, ServiceError, TrainyardError, first_line
from trainyard.training.store import Save, copy

CALL_SECONDS = 60.0
"""Longest that a store may take to answer; sending and fetching get more by their size."""
SLOWEST_BYTES_PER_SECOND = 2**20


class ObjectStore:
    """An object store, or any other file system that pyarrow or fsspec opens."""

    def __init__(self, address: str, *parts: str) -> None:
        self.address = "/".join((shown(address).rstrip("/"), *parts))
        if "@" in urlsplit(address).netloc:
            raise InputError(f"cluster.storage: {self.address} comes with a password or key; leave those to the environment")
        filesystem, path = self._bounded(lambda: _filesystem(address))
        self.filesystem: Any = filesystem
        self.root = "/".join((path.rstrip("/"), *parts))

    def names(self, name: str = "") -> list[str]:
        return sorted(info.base_name for info in self._listed(name))

    def sizes(self, name: str = "") -> dict[str, int]:
        return dict(sorted((info.base_name, info.size) for info in self._listed(name) if info.is_file))

    def read(self, name: str) -> bytes:
        def call() -> bytes:
            with self.filesystem.open_input_stream(self._key(name), compression=None) as stream:
                return bytes(stream.read())

        content: bytes = self._bounded(call)
        return content

    def size(self, name: str) -> int | None:
        info = self._bounded(lambda: self.filesystem.get_file_info(self._key(name)))
        return info.size if info.is_file else None

    def write(self, name: str, save: Save) -> None:
        # An object is seen when it is closed, and a stream that breaks is closed as well: what makes a file whole is the
        # manifest that names it, which is written after it.
        watched = _Watched()

        def call() -> None:
            if self.filesystem.type_name not in ("s3", "gcs"):
                self.filesystem.create_dir(self._key(name).rpartition("/")[0], recursive=True)
            with self.filesystem.open_output_stream(self._key(name), compression=None) as stream:
                save(watched.watch(stream))

        self._bounded(call, watched)

    def fetch(self, name: str, path: Path, told: Callable[[], object] | None = None) -> str:
        watched = _Watched()

        def call() -> str:
            source = self.filesystem.open_input_stream(self._key(name), compression=None)
            with source, path.open("wb") as target:
                return copy(source, watched.watch(target), told)

        sha256: str = self._bounded(call, watched)
        return sha256

    def delete(self, name: str) -> None:
        from pyarrow.fs import FileSelector

        def call() -> None:
            info = self.filesystem.get_file_info(self._key(name))
            if info.is_file:
                self.filesystem.delete_file(info.path)
            elif info.type.name == "Directory":
                for inner in self.filesystem.get_file_info(FileSelector(info.path, allow_not_found=True, recursive=True)):
                    if inner.is_file:
                        self.filesystem.delete_file(inner.path)
                self.filesystem.delete_dir(info.path)

        self._bounded(call)

    def _listed(self, name: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._key(name), allow_not_found=True)
        found: list[Any] = self._bounded(lambda: self.filesystem.get_file_info(selector))
        return found

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def _bounded(self, call: Callable[[], Any], watched: _Watched | None = None) -> Any:
        """Return what a call returns. None of the libraries bounds the time of an answer that drips in."""
        watched = watched or _Watched()
        outcome: list[tuple[Any, BaseException | None]] = []
        done = threading.Event()

        def run() -> None:
            try:
                outcome.append((call(), None))
            except BaseException as error:
                outcome.append((None, error))
            done.set()

        threading.Thread(target=run, name="store", daemon=True).start()
        while not done.wait(max(0.0, watched.left_seconds())):
            if watched.left_seconds() <= 0:
                raise ServiceError(
                    f"{self.address}: did not answer for {CALL_SECONDS:.0f} s; start it, or look at the network between"
                )
        value, error = outcome[0]
        if error is None:
            return value
        if isinstance(error, FileNotFoundError | TrainyardError) or not isinstance(error, Exception):
            raise error
        raise ServiceError(
            f"{self.address}: cannot be used ({first_line(error)}); look at the address, the credentials and the network"
        ) from error


class _Watched:
    """Bytes under way, and how long they may still take."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.size = 0
        self.file: Any = None

    def watch(self, file: Any) -> _Watched:
        self.file = file
        return self

    def write(self, content: Any) -> int:
        self.file.write(content)
        self.size += memoryview(content).nbytes
        return memoryview(content).nbytes

    def flush(self) -> None:
        self.file.flush()

    def left_seconds(self) -> float:
        return self.began + CALL_SECONDS + self.size / SLOWEST_BYTES_PER_SECOND - time.monotonic()


def shown(address: str) -> str:
    """Return an address as it may be shown and logged: without user, password and query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _filesystem(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    from pyarrow.fs import FileSystem, FSSpecHandler, GcsFileSystem, PyFileSystem

    parts = urlsplit(address)
    if parts.scheme == "s3":
        return _s3(parts.netloc, dict(parse_qsl(parts.query))), f"{parts.netloc}{unquote(parts.path)}"
    if parts.scheme in ("gs", "gcs"):
        filesystem = GcsFileSystem(retry_time_limit=timedelta(seconds=CALL_SECONDS / 2))
        return filesystem, f"{parts.netloc}{unquote(parts.path)}"
    try:
        found: tuple[Any, str] = FileSystem.from_uri(address)
        return found
    except ValueError:
        import fsspec  # type: ignore[import-untyped]

        if parts.scheme not in fsspec.available_protocols():
            raise InputError(
                f"cluster.storage: {shown(address)}: no library knows {parts.scheme}://; use s3://, gs:// or a path"
            ) from None
        filesystem, path = fsspec.core.url_to_fs(address)
        return PyFileSystem(FSSpecHandler(filesystem)), path


def _s3(bucket: str, options: Mapping[str, str]) -> Any:
    """Return the client of an S3-compatible store, with what the environment says of it, as other programs take it."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    environment = os.environ
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rstrip("/").rpartition("://")
    host = options.get("endpoint_override", host)
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if host else resolve_s3_region(bucket)
    return S3FileSystem(
        endpoint_override=host or None,
        scheme=options.get("scheme") or scheme or "https",
        region=region,
        connect_timeout=5.0,
        request_timeout=15.0,
        # One request for a small file.
        allow_delayed_open=True,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )
