"""`trainyard serve` with replicas, as a user starts it, and clients that count what becomes of their requests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.ray_head import end_processes, wait_for

TEXTS = ["a fine day", "cold, and LATE"]


@dataclass
class Replicas:
    """`with Replicas(log, "photos", "--address", "local") as served: served.post(...)`."""

    log: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""
    """A variable of the environment by which all its processes are found; empty: they are another one's."""

    def __enter__(self) -> Replicas:
        own = {self.mark: str(self.log)} if self.mark else {}
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainyard.cli", "serve", *self.arguments, "--port", "0"],
                env={**os.environ, **self.environment, **own, "PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.session = requests.Session()
        self.session.trust_env = False
        self.wait_for("schema at /openapi.json")
        found = re.search(r"http://127\.0\.0\.1:\d+", self.said)
        assert found, self.said
        self.url = found[0]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.session.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.mark:
            end_processes(str(self.log), self.mark)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.said or self.process.poll() is not None, repr(text))
        assert text in self.said, self.said

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=120, **options)

    def post(self, model: str, **options: Any) -> requests.Response:
        return self.session.post(f"{self.url}/models/{model}/predict", timeout=120, **options)

    def end(self, sign: int = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.process.wait(240)


class Crowd:
    """`with Crowd(url) as crowd:` asks about texts, a dozen at a time, as long as the block takes."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, clients: int = 12) -> None:
        self.url, self.headers = f"{url}/models/reviews/predict", dict(headers or {})
        self.clients = clients
        self.statuses: Counter[int] = Counter()
        self.replicas: Counter[str] = Counter()
        self.fingerprints: list[str] = []
        self.broken: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> Crowd:
        self.threads = [threading.Thread(target=self._ask) for _ in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.is_set():
                try:
                    reply = session.post(self.url, json={"texts": TEXTS}, headers=self.headers, timeout=120)
                except requests.RequestException as error:
                    with self.lock:
                        self.broken.append(repr(error))
                    continue
                with self.lock:
                    self.statuses[reply.status_code] += 1
                    if reply.status_code == 200:
                        self.replicas[reply.headers["x-replica"]] += 1
                        self.fingerprints.append(reply.json()["fingerprint"])
