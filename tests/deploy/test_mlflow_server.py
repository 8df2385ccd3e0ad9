"""The script that starts a team's MLflow server, run for real on loopback with SQLite in PostgreSQL's place."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

pytestmark = pytest.mark.long
SECONDS = 180


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What compose.yaml gives the server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WORKERS": "1",
        "BACKEND_URI": f"sqlite:///{folder}/runs.db",
        "USERS_URI": f"sqlite:///{folder}/users.db",
        "ARTIFACTS": str(folder / "artifacts"),
        "ALLOWED_HOSTS": "127.0.0.1:*",
        "ADMIN_PASSWORD": f"pass%word-{secrets.token_hex(8)}",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }


@pytest.fixture(scope="module")
def server(root: Path, variables: dict[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server that runs, and its process."""
    log = Path(variables["TMPDIR"]) / "server.log"
    with log.open("wb") as file:
        script = str(root / "deploy" / "mlflow" / "serve.sh")
        started = psutil.Popen(["bash", script], env=variables, stdout=file, stderr=file, start_new_session=True)
    address = f"http://127.0.0.1:{variables['PORT']}"
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            assert started.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                if requests.get(f"{address}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.5)
        yield address, started
    finally:
        for process in [*started.children(recursive=True), started]:
            process.kill()
        started.wait()


def test_nobody_reads_runs_without_a_password(server: tuple[str, psutil.Process], variables: dict[str, str]) -> None:
    search = f"{server[0]}/api/2.0/mlflow/experiments/search"
    body = {"max_results": 1}
    assert requests.post(search, json=body, timeout=60).status_code == 401
    assert requests.post(search, json=body, auth=("admin", "password1234"), timeout=60).status_code == 401
    answer = requests.post(search, json=body, auth=("admin", variables["ADMIN_PASSWORD"]), timeout=60)
    assert answer.status_code == 200
    assert answer.json()["experiments"]


def test_no_secret_stands_on_a_command_line(server: tuple[str, psutil.Process], variables: dict[str, str]) -> None:
    lines = [" ".join(process.cmdline()) for process in [server[1], *server[1].children(recursive=True)]]
    assert any("mlflow" in line for line in lines)
    assert not any(variables["ADMIN_PASSWORD"] in line for line in lines)


def test_other_names_are_refused(server: tuple[str, psutil.Process]) -> None:
    answer = requests.get(f"{server[0]}/api/2.0/mlflow/experiments/list", headers={"Host": "evil.example.com"}, timeout=60)
    assert answer.status_code == 403


def test_a_weak_password_is_refused(root: Path, variables: dict[str, str]) -> None:
    script = str(root / "deploy" / "mlflow" / "serve.sh")
    done = subprocess.run(["bash", script], env={**variables, "ADMIN_PASSWORD": "short"}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "fewer than 12 characters" in done.stderr
