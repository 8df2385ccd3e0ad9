"""A real Ray head with its job server, on this machine alone, of which nothing is left afterwards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.pipeline.conftest import Project
from trainyard.errors import TrainyardError
from trainyard.jobs.server import Server

WAIT_SECONDS = 400.0
MARK = "TRAINYARD_HEAD_TEST"


class Cluster:
    """A Ray head: its job server's address, its home folder, its logs."""

    def __init__(self, url: str, home: Path, temporary: Path, environment: dict[str, str]) -> None:
        self.url = url
        self.home = home
        self.temporary = temporary
        self.environment = environment
        """Of its own processes, and of whoever joins it."""

    @property
    def address(self) -> str:
        """Host and port at which drivers join it."""
        words = (word for process in self.processes() for word in process.cmdline())
        return next(word.partition("=")[2] for word in words if word.startswith(("--gcs-address=", "--gcs_address=")))

    def processes(self) -> list[psutil.Process]:
        return processes(str(self.home))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.2)


def answers(url: str, token: str | None) -> bool:
    try:
        return bool(Server(url, token).check())
    except TrainyardError:
        return False


def processes(mark: str, variable: str = MARK) -> list[psutil.Process]:
    """Return what carries the mark in its environment: all that works for one head, and nobody else's Ray."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == mark and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_processes(mark: str, variable: str = MARK) -> None:
    """Kill them, by pid, until none is left."""

    def ended() -> bool:
        for process in processes(mark, variable):
            with suppress(psutil.Error):
                process.kill()
        return not processes(mark, variable)

    wait_for(ended, "the end of a head's processes")


@contextmanager
def running(home: Path, token: str | None = None, **more: str) -> Iterator[Cluster]:
    """Start a head; its stable folder is under `home`, and its environment has `more`."""
    environment = {**Project(home).environment, "HOME": str(home), MARK: str(home), "RAY_AUTH_MODE": "disabled", **more}
    if token:
        (home / "token").write_text(token)
        (home / "token").chmod(0o600)
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / "token")}
    temporary = Path(tempfile.mkdtemp(prefix="tyj-"))
    try:
        for attempt in range(3):
            url = start(environment, home, temporary / str(attempt), token)
            if url is not None:
                break
            end_processes(str(home))
        assert url is not None, (temporary / "2.log").read_text()
        yield Cluster(url, home, temporary, environment)
    finally:
        end_processes(str(home))

        def removed() -> bool:
            # The last writes of processes that are just gone can come between.
            shutil.rmtree(temporary, ignore_errors=True)
            return not temporary.exists()

        wait_for(removed, "an empty temporary folder")


def start(environment: dict[str, str], home: Path, temporary: Path, token: str | None) -> str | None:
    """Start a head on ports that were free a moment ago; None where it ended, because one no longer was."""
    port = free_port()
    program = shutil.which("ray", path=environment["PATH"])
    assert program
    command = [program, "start", "--head", "--block", "--port=0", f"--ray-client-server-port={free_port()}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"]
    command += ["--metrics-export-port=0", f"--temp-dir={temporary}", "--num-cpus=2", "--num-gpus=0"]
    command += ["--object-store-memory=83886080", "--disable-usage-stats"]
    with temporary.with_suffix(".log").open("wb") as log:
        started = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(url, token) or started.poll() is not None, "the head")
    return url if started.poll() is None else None
