"""A web server on loopback that misbehaves as told, one answer after the other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answer = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Serves `web.files`, or does what is next in `web.plan`."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        self.web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        answer = self.web.plan.pop(0) if self.web.plan else whole
        try:
            answer(self, self.web.files.get(self.path, b""))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def handle(self) -> None:
        # A client that had enough hangs up.
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *values: Any) -> None:
        pass

    def head(self, code: int, **headers: Any) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


class Web:
    """`with Web({"/a/b.bin": b"..."}, plan) as web: web.url`."""

    def __init__(self, files: dict[str, bytes] | None = None, plan: list[Answer] | None = None) -> None:
        self.files = files or {}
        self.plan = plan or []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"web": self}))
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def ranges(self) -> list[str | None]:
        """Return the Range header of each request."""
        return [headers.get("range") for _, headers in self.asked]

    def __enter__(self) -> Web:
        # A proxy of this machine's owner knows nothing of loopback.
        self.before = os.environ.get("no_proxy")
        os.environ["no_proxy"] = "127.0.0.1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.before is None:
            os.environ.pop("no_proxy", None)
        else:
            os.environ["no_proxy"] = self.before
        self.server.shutdown()
        self.server.server_close()


def whole(handler: Handler, content: bytes, etag: str = '"v1"') -> None:
    """Serve what is asked for, with ranges and If-Range."""
    if not content:
        return status(404)(handler, content)
    wanted = handler.headers.get("Range")
    same = handler.headers.get("If-Range") in (None, etag)
    if wanted and same:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            return handler.head(416, Content_Length=0)
        rest = content[start:]
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, Content_Length=len(rest), Content_Range=span, ETag=etag)
        handler.wfile.write(rest)
        return None
    handler.head(200, Content_Length=len(content), ETag=etag)
    handler.wfile.write(content)
    return None


def cut(after: int) -> Answer:
    """Promise all of it, and hang up after some bytes."""

    def answer(handler: Handler, content: bytes) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        span = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        handler.head(206 if start else 200, Content_Length=len(content) - start, ETag='"v1"', **span)
        handler.wfile.write(content[start : start + after])
        handler.close_connection = True

    return answer


def status(code: int, **headers: Any) -> Answer:
    """Answer with nothing but a code."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(code, Content_Length=0, **headers)

    return answer


def redirect(url: str) -> Answer:
    """Send elsewhere."""
    return status(302, Location=url)


def without_ranges(handler: Handler, content: bytes) -> None:
    """Send all of it, whatever was asked for."""
    handler.head(200, Content_Length=len(content))
    handler.wfile.write(content)


def other(content: bytes) -> Answer:
    """Serve something else."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content)

    return answer


def chunked(handler: Handler, content: bytes) -> None:
    """Serve without saying how much it will be."""
    handler.head(200, Transfer_Encoding="chunked")
    for start in range(0, len(content), 40_000):
        piece = content[start : start + 40_000]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def drip(handler: Handler, content: bytes) -> None:
    """Serve a byte now and then."""
    handler.head(200, Content_Length=len(content))
    for value in content[:200]:
        handler.wfile.write(bytes([value]))
        handler.wfile.flush()
        time.sleep(0.01)
    handler.close_connection = True


def silence(handler: Handler, content: bytes) -> None:
    """Serve nothing, and keep the line open."""
    handler.head(200, Content_Length=len(content))
    time.sleep(0.5)
    handler.close_connection = True
