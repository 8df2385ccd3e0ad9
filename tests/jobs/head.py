"""A small job server that answers as Ray's does, and fails as networks do when it is told to."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any


class FakeHead:
    """Jobs in memory. `faults` are met by the next requests, in order: cut, half, an HTTP status, or ok."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.packages: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: deque[str | int] = deque()
        self.ray_version: Any = version("ray")
        self.token: str | None = None
        self.on_submit = "RUNNING"
        self.url = ""

    def add(self, job_id: str, status: str, log: str = "", **details: Any) -> None:
        with self.lock:
            self.jobs[job_id] = {
                "submission_id": job_id,
                "status": status,
                "start_time": 1_700_000_000_000 + len(self.jobs),
                "metadata": {"trainyard.targets": "make", "trainyard.user": "ada@desk"},
                **details,
            }
            self.logs[job_id] = log

    def asked(self, method: str, path: str) -> int:
        return sum(1 for request in self.requests if request == (method, path))

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        with self.lock:
            if path == "/api/version":
                return 200, {"version": "4", "ray_version": self.ray_version}
            if path.startswith("/api/packages/"):
                name = path.rpartition("/")[2]
                if method == "PUT":
                    self.packages[name] = body
                return (200 if name in self.packages else 404), ""
            if path == "/api/jobs/" and method == "GET":
                return 200, list(self.jobs.values())
            if path == "/api/jobs/":
                return self._submit(json.loads(body))
            job_id, _, verb = path.removeprefix("/api/jobs/").partition("/")
            if job_id not in self.jobs:
                return 404, f"Job {job_id} does not exist"
            if verb == "logs":
                return 200, {"logs": self.logs[job_id]}
            if verb == "stop":
                self.jobs[job_id]["status"] = "STOPPED"
                return 200, {"stopped": True}
            return 200, self.jobs[job_id]

    def _submit(self, request: dict[str, Any]) -> tuple[int, Any]:
        job_id = request["submission_id"]
        if job_id in self.jobs:
            return 400, f"ValueError: Job with submission_id {job_id} already exists. Please use a different submission_id."
        self.jobs[job_id] = {**request, "status": self.on_submit, "start_time": 1_700_000_000_000}
        self.logs[job_id] = ""
        return 200, {"submission_id": job_id}


@contextmanager
def serving(head: FakeHead) -> Iterator[FakeHead]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with head.lock:
                head.requests.append((self.command, self.path))
                fault = head.faults.popleft() if head.faults else "ok"
            if fault == "cut":
                self.connection.close()
                return
            if isinstance(fault, int):
                self._send(fault, b"oh no")
                return
            if head.token is not None and self.headers.get("Authorization") != f"Bearer {head.token}":
                self._send(403 if "Authorization" in self.headers else 401, b"Unauthorized")
                return
            status, values = head.answer(self.command, self.path, body)
            content = values.encode() if isinstance(values, str) else json.dumps(values).encode()
            self._send(status, content[: len(content) // 2] if fault == "half" else content)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = handle_one

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    head.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield head
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
