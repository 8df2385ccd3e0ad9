"""The folder of a page, shown to this machine alone."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from trainyard.serving.server import listen, tell

LOOPBACK = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".gz": "application/gzip",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
}
"""Not those that a system lists, which leave out scripts on some and say something else on others."""
HEADERS = {
    # A folder that was written again is seen again.
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # With these two, threads could share memory, should a later runtime want to.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}


class _Files(StaticFiles):
    """Files with types and headers of our own."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        kind = TYPES.get(Path(full_path).suffix)
        if kind is not None and isinstance(response, FileResponse):
            response.headers["content-type"] = kind
        response.headers.update(HEADERS)
        return response


def application(folder: Path) -> Starlette:
    """Return what serves a folder, under the names of this machine alone: no page elsewhere can have a browser read it."""
    files = Mount("/", _Files(directory=folder, html=True))
    return Starlette(routes=[files], middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])])


class _Server(uvicorn.Server):
    """uvicorn's, but that being told to end is no error."""

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super()._serve(sockets)
        self._captured_signals.clear()


def serve(folder: Path, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        MachineError: the port is taken.
    """
    sock = listen(LOOPBACK, port)
    config = uvicorn.Config(
        application(folder), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    tell(f"{folder}: http://{LOOPBACK}:{sock.getsockname()[1]} (Ctrl-C ends it)")
    with contextlib.closing(sock):
        _Server(config).run([sock])
