from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.safety.heads import TOKEN, head
from trainyard.doctor.listeners import Program, examine_listeners, kind, loopback, programs


def ray(part: str, *ports: tuple[str, int], mode: str | None = "token") -> Program:
    return Program(pid=1, owner="Ray", part=part, ports=ports, mode=mode)


def finding(*seen: Program, about: str = "Ray listens") -> tuple[str, str]:
    found = [line for line in examine_listeners(list(seen)) if line.about == about]
    return found[-1].status, found[-1].found


@contextmanager
def web_server(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_what_listens_on_this_machine_alone_is_ok() -> None:
    status, text = finding(ray("gcs_server", ("::ffff:127.0.0.1", 6379)), ray("raylet", ("127.0.0.1", 7001)))
    assert status == "ok" and "on this machine alone: gcs_server 127.0.0.1:6379, raylet 127.0.0.1:7001" in text


def test_a_ray_that_lets_anybody_in_is_a_problem_of_security() -> None:
    with head(None) as address:
        port = int(address.rpartition(":")[2])
        found = examine_listeners([ray("gcs_server", ("::", port), ("127.0.0.1", 1))])[0]
    assert found.status == "problem" and found.code == 5
    assert f"gcs_server [::]:{port}" in found.found and "127.0.0.1" not in found.found
    assert "RAY_AUTH_MODE=token" in found.fix


def test_a_ray_on_the_network_that_asks_for_a_token_is_ok() -> None:
    with head(TOKEN) as address:
        status, text = finding(ray("gcs_server", ("0.0.0.0", int(address.rpartition(":")[2])), mode=None))
    assert status == "ok" and "asks for a token" in text


@pytest.mark.parametrize(("mode", "status"), [("token", "ok"), ("", "problem"), ("disabled", "problem"), (None, "warning")])
def test_a_node_without_a_head_is_judged_by_how_it_was_started(mode: str | None, status: str) -> None:
    assert finding(ray("raylet", ("10.0.0.7", 7001), mode=mode))[0] == status


@pytest.mark.parametrize(("answer", "status"), [(200, "problem"), (401, "ok"), (500, "warning")])
def test_an_mlflow_on_the_network_is_asked_whether_it_asks(answer: int, status: str) -> None:
    with web_server(answer) as port:
        server = Program(pid=1, owner="MLflow", part="server", ports=(("0.0.0.0", port),), mode=None)
        assert finding(server, about="MLflow listens")[0] == status


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/v/site-packages/ray/core/src/ray/gcs/gcs_server", "--log_dir=/tmp"], ("Ray", "gcs_server")),
        (["/v/site-packages/ray/core/src/ray/raylet/raylet", "-x"], ("Ray", "raylet")),
        (["ray::RayTrainWorker.execute"], ("Ray", "RayTrainWorker")),
        (["ray::DashboardAgent", "", ""], ("Ray", "DashboardAgent")),
        (["python", "-u", "/v/site-packages/ray/dashboard/dashboard.py", "--host=127.0.0.1"], ("Ray", "dashboard")),
        (["python", "-m", "mlflow", "server", "--host", "0.0.0.0"], ("MLflow", "server")),
        (["python", "pipeline/train.py", "cnn"], ("Trainyard", "train.py")),
        (["vim", "notes/raylet.md"], None),
        (["grep", "-r", "gcs_server"], None),
        ([], None),
    ],
)
def test_command_lines_are_told_apart(command: list[str], expected: tuple[str, str] | None) -> None:
    assert kind(command) == expected


def test_mapped_and_scoped_addresses_are_told_apart() -> None:
    assert loopback("127.0.0.1") and loopback("::1") and loopback("::ffff:127.0.0.1")
    assert not loopback("0.0.0.0") and not loopback("::") and not loopback("fe80::1%eth0") and not loopback("::ffff:10.0.0.1")


def test_a_process_that_listens_is_seen(tmp_path: object) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    place = os.path.join(str(tmp_path), "pipeline")
    os.mkdir(place)
    script = os.path.join(place, "train.py")
    with open(script, "w") as file:
        file.write(code)
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        own = [program for program in programs() if program.pid == process.pid]
        assert own and own[0].owner == "Trainyard" and own[0].ports == (("127.0.0.1", port),)
    finally:
        process.communicate("")
