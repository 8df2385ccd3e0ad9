"""An HTTP proxy with faults, and a real MLflow server behind it."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

Mode = Literal["pass", "down", "hang", "drop", "slow", "500", "429", "lost", "truncated", "half", "empty"]
DEADLINE = 240.0
SLOW_SECONDS = 0.3


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, for as long as a loaded machine may need."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}"
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that the kernel has free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """Run a real server over a sqlite file and give its port."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/artifacts"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *store, "--workers", "1"], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        wait_until(lambda: server.poll() is not None or _healthy(port), "the MLflow server")
        assert server.poll() is None, (folder / "server.log").read_text()
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait()


def _healthy(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


class Proxy:
    """Passes requests on, or not; `faults` counts by mode, `asked` lists (method, path) of all that arrived."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.mode: Mode = "pass"
        self.chosen: Callable[[str, str, int], bool] = lambda method, path, number: True
        """Of (method, path, number of the request from 0): whether the mode is for it; others pass."""
        self.faults: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []
        self._counting = threading.Lock()
        self._held = threading.Event()
        self._blockers: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._server: ThreadingHTTPServer | None = None
        self._listen()

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def turn(self, mode: Mode, chosen: Callable[[str, str, int], bool] = lambda method, path, number: True) -> None:
        """Behave so from now on; requests that hang end without an answer."""
        self._stop_dropping()
        self.mode, self.chosen = mode, chosen
        self._held.set()
        self._held = threading.Event()
        if mode in ("down", "drop"):
            self._close()
            if mode == "drop":
                self._start_dropping()
        elif self._server is None:
            self._listen()

    def close(self) -> None:
        """Stop listening."""
        self._stop_dropping()
        self._held.set()
        self._close()

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(OSError):
                    super().handle_one_request()

            def log_message(self, *arguments: object) -> None:
                pass

            def _serve(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _start_dropping(self) -> None:
        """Hold a port whose queue of connections is full: the kernel answers further ones with nothing at all."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(0)
        for _ in range(4):
            blocker = socket.socket()
            blocker.setblocking(False)
            with suppress(BlockingIOError):
                blocker.connect(("127.0.0.1", self.port))
            self._blockers.append(blocker)

    def _stop_dropping(self) -> None:
        for blocker in self._blockers:
            blocker.close()
        self._blockers.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.split("?")[0]
        with self._counting:
            number = len(self.asked)
            self.asked.append((handler.command, path))
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        mode, held = self.mode, self._held
        handler.close_connection = True
        if mode == "pass" or not self.chosen(handler.command, path, number):
            self._answer(handler, *self._forward(handler, body))
            return
        with self._counting:
            self.faults[mode] += 1
        if mode == "hang":
            held.wait(DEADLINE)
        elif mode in ("500", "429"):
            self._answer(handler, int(mode), {}, b"<html>not now</html>")
        elif mode == "slow":
            status, headers, answer = self._forward(handler, body)
            held.wait(SLOW_SECONDS)
            self._answer(handler, status, headers, answer)
        else:
            # The server did what it was asked for, and nobody hears of it.
            status, headers, answer = self._forward(handler, body)
            if mode == "truncated":
                self._answer(handler, status, headers, answer[: len(answer) // 2])
            elif mode == "half":
                self._answer(handler, status, {**headers, "Content-Length": str(len(answer))}, answer[: len(answer) // 2])
            elif mode == "empty":
                self._answer(handler, status, {}, b"")

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=DEADLINE)
        hop = ("host", "connection", "content-length", "accept-encoding")
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in hop}
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {"Content-Type": answer.headers.get("Content-Type", "application/json")}, content

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body)
