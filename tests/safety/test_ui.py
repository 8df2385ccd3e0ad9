from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.safety.network import two_hosts
from trainyard.doctor.listeners import loopback
from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.training.cluster_config import TrackingConfig
from trainyard.ui import check_password, check_port, serve

STRONG = "f8Zk2-qLw9-xx1T"
ROUTES = (
    "/",
    "/version",
    "/graphql",
    "/api/2.0/mlflow/experiments/search?max_results=1",
    "/ajax-api/2.0/mlflow/webhooks",
    "/ajax-api/2.0/mlflow/users/create",
    "/get-artifact?path=x&run_uuid=y",
    "/api/2.0/mlflow-artifacts/artifacts",
    "/ajax-api/3.0/mlflow/scorers/list?experiment_id=0",
    "/ajax-api/3.0/jobs/",
    "/v1/traces",
    "/gateway/x",
)
"""Of the kinds that were attacked before: artifacts, jobs, webhooks, graphql, scorers, users."""
ASK = """
import json, sys, urllib.error, urllib.request
server, headers, routes = json.loads(sys.argv[1])
answers = []
for route in routes:
    for data in (None, b"{}"):
        request = urllib.request.Request(server + route, data=data, headers={**headers, "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                answers.append(reply.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
print(json.dumps(answers))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("f8Zk2-qLw9", "has fewer than 12 characters"),
        ("password1234", "is easily guessed"),
        ("MLflow-2026-secret", "is easily guessed"),
        ("aaaaaaaaaaaaaaaa", "is easily guessed"),
    ],
)
def test_a_missing_or_weak_password_is_refused_and_not_shown(password: str | None, problem: str) -> None:
    with pytest.raises(IntegrityError, match=f"MLFLOW_AUTH_ADMIN_PASSWORD: {problem}; ") as refused:
        check_password(password)
    assert not password or password not in str(refused.value)


def test_a_strong_password_is_taken() -> None:
    check_password(STRONG)


def test_a_network_is_not_served_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    with pytest.raises(InputError, match=r"mlflow.db: no such file"):
        serve(tmp_path, TrackingConfig(), "0.0.0.0", free_port(), ())
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(IntegrityError, match="MLFLOW_AUTH_ADMIN_PASSWORD: is not set"):
        serve(tmp_path, TrackingConfig(), "0.0.0.0", free_port(), ())


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=rf"port {port}: cannot be listened on .* PORT={port + 1}"):
            check_port("127.0.0.1", port)


@contextmanager
def server(folder: Path, prefix: list[str], arguments: list[str], **environment: str) -> Iterator[psutil.Process]:
    """Run `trainyard ui` in a project without runs until it answers."""
    (folder / "params.yaml").write_text("recipes: {}\n")
    (folder / "mlflow.db").touch()
    away = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH")]))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "trainyard.cli", "ui", *arguments],
            cwd=folder,
            env={**away, "PYTHONPATH": path, "DVC_ROOT": str(folder), **environment},
            stdout=log,
            stderr=log,
        )
    port = arguments[arguments.index("--port") + 1]
    health = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/health', timeout=60)"
    try:
        deadline = time.monotonic() + 500
        while subprocess.run([*prefix, sys.executable, "-c", health], capture_output=True).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for left in [*children, process]:
            left.kill()
        process.wait()


def listeners(process: psutil.Process) -> list[str]:
    family = {process.pid, *(child.pid for child in process.children(recursive=True))}
    return [
        found.laddr.ip for found in psutil.net_connections("inet") if found.pid in family and found.status == psutil.CONN_LISTEN
    ]


def test_the_pages_are_for_this_machine_alone_and_no_secret_is_an_argument(tmp_path: Path) -> None:
    with server(tmp_path, [], ["--port", str(free_port())], A_TOKEN="canary-ui-5e1f") as process:
        found = listeners(process)
        commands = [" ".join(each.cmdline()) for each in [process, *process.children(recursive=True)]]
    assert found and all(loopback(address) for address in found)
    assert not [command for command in commands if "canary-ui-5e1f" in command or "mlflow.db" in command]


def test_another_host_sees_nothing_without_the_password(tmp_path: Path) -> None:
    with two_hosts() as hosts:
        port = free_port()
        arguments = ["--host", "0.0.0.0", "--port", str(port)]
        with server(tmp_path, hosts.on_home(), arguments, MLFLOW_AUTH_ADMIN_PASSWORD=STRONG) as process:
            address = f"http://{hosts.address}:{port}"

            def ask(password: str, routes: tuple[str, ...] = ROUTES, **headers: str) -> list[int]:
                given = base64.b64encode(f"admin:{password}".encode()).decode()
                full = {"Authorization": f"Basic {given}", **headers} if password else headers
                command = [sys.executable, "-c", ASK, json.dumps([address, full, routes])]
                done = subprocess.run(hosts.on_peer(*command), capture_output=True, text=True, timeout=250)
                answers: list[int] = json.loads(done.stdout or "[]")
                assert len(answers) == 2 * len(routes), done.stderr
                return answers

            assert set(ask("")) == {401}
            assert set(ask("password1234")) == {401}
            assert ask(STRONG, routes=("/api/2.0/mlflow/experiments/search?max_results=1",))[0] == 200
            assert set(ask(STRONG, routes=("/",), Host="evil.example")) == {403}
            commands = [" ".join(each.cmdline()) for each in [process, *process.children(recursive=True)]]
        assert not [command for command in commands if STRONG in command]
        assert STRONG not in (tmp_path / "log").read_text()
        assert (tmp_path / ".trainyard" / "ui").stat().st_mode & 0o777 == 0o700
