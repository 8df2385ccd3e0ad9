"""A real server in a process of its own, and clients that behave, and that do not."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import requests

CODE = """
import sys, json
from dataclasses import replace
from pathlib import Path
from trainyard.serving.options import Options
from trainyard.serving.served import Served
from trainyard.serving.server import read_token, serve
models, changes, inputs, token = json.loads(sys.argv[1])
options = Options()
options = replace(options, **changes, inputs=replace(options.inputs, **inputs))
served = {name: Served(name, Path(path), "fp32", 1) for name, path in models.items()}
serve(served, options, host="127.0.0.1", port=0, token=token and read_token(Path(token)))
"""


@dataclass
class Server:
    """`with Server(models) as server: server.post("photos", ...)`."""

    models: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    token: Path | None = None

    def __enter__(self) -> Server:
        said = [
            {name: str(path) for name, path in self.models.items()},
            self.options,
            self.inputs,
            self.token and str(self.token),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, json.dumps(said)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.line(120))
        if found is None:
            raise AssertionError(self.process.communicate()[1])
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.session.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self, seconds: float = 60) -> str:
        """Return the next line that it says."""
        if self.process.stdout is None or not select.select([self.process.stdout], [], [], seconds)[0]:
            return ""
        return self.process.stdout.readline()

    def end(self, sign: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Tell it to end; return its exit code and what it said."""
        self.process.send_signal(sign)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it said."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=120, **options)

    def post(self, model: str, body: Any = None, **options: Any) -> requests.Response:
        if body is not None:
            options["json"] = body
        return self.session.post(f"{self.url}/models/{model}/predict", timeout=120, **options)

    def images(self, model: str, files: Sequence[bytes], **options: Any) -> requests.Response:
        return self.post(model, files=[("images", ("x", content)) for content in files], **options)

    def raw(self, content: bytes, wait: float = 60) -> bytes:
        """Send bytes as they are, and return all that comes back until the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            try:
                line.sendall(content)
                return b"".join(iter(lambda: line.recv(65536), b""))
            except (ConnectionError, TimeoutError):
                return b""

    def memory(self) -> int:
        """Return the bytes that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def metric(self, name: str) -> float:
        """Return the sum of a counter over its labels."""
        lines = [line for line in self.get("/metrics").text.splitlines() if re.match(rf"{name}(\{{| )", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_until(true: Any, seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.05)
