from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.safety import canaries
from tests.safety.network import Hosts, two_hosts
from trainyard.training.hardware import processors

SCRIPT = Path(__file__).with_name("hold_training.py")
ATTACK = """
import json, socket, sys
reached = []
for port in json.loads(sys.argv[2]):
    with socket.socket() as probe:
        probe.settimeout(5)
        if probe.connect_ex((sys.argv[1], port)) == 0:
            reached.append(port)
print(json.dumps(reached))
"""
BAIT = """
import socket
with socket.create_server(("0.0.0.0", 0)) as server:
    print(server.getsockname()[1], flush=True)
    input()
"""
WRONG_TOKEN = "c0ffee" * 8
JOIN = """
import sys
from pathlib import Path
from trainyard.errors import TrainyardError
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.job import FitJob
from trainyard.training.launch import Launch
nowhere = Path("/nowhere")
try:
    # It does not get as far as to look at the job.
    job = FitJob(recipe=None, data_dir=nowhere, scratch_dir=nowhere, fingerprint="f")
    Launch(job, ClusterConfig(workers=1)).ready()
except TrainyardError as error:
    print(error)
    sys.exit(error.exit_code)
"""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(processors() < 2, reason="needs two processors"),
]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training on the first host keeps its files."""
    return tmp_path_factory.mktemp("held")


@pytest.fixture(scope="module")
def listeners(hosts: Hosts, packed_digits: Path, work: Path, root: Path) -> Iterator[list[tuple[str, str, int]]]:
    """Who listens where while two workers train on the first host, held still meanwhile."""
    away = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**away, **canaries.environment(), "PYTHONPATH": str(root / "src")}
    command = hosts.on_home(sys.executable, str(SCRIPT), str(packed_digits), str(work))
    with (work / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 500
        while not (work / "listeners.json").exists():
            assert process.poll() is None, (work / "output").read_text()
            assert time.monotonic() < deadline, (work / "output").read_text()
            time.sleep(0.2)
        commands = [" ".join(each.cmdline()) for each in _children(process.pid)]
        (work / "of-ray" / "commands").write_text("\n".join(commands))
        yield json.loads((work / "listeners.json").read_text())
        (work / "go").touch()
        assert process.wait(timeout=120) == 0, (work / "output").read_text()
    finally:
        for left in [*_children(process.pid), process]:
            left.kill()
        process.wait()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def test_no_part_of_a_training_listens_beyond_this_machine(listeners: list[tuple[str, str, int]]) -> None:
    commands = " ".join(command for command, _, _ in listeners)
    for part in ("gcs_server", "raylet", "RayTrainWorker", "DashboardAgent", "RuntimeEnvAgent"):
        assert part in commands, f"{part} was not seen listening, so this test no longer looks at the whole"
    assert sum("RayTrainWorker" in command for command, _, _ in listeners) >= 5, "Ray's port of each worker, gloo's, the store"
    assert not [found for found in listeners if not _is_loopback(found[1])]


def test_another_host_reaches_no_port_of_a_training(hosts: Hosts, listeners: list[tuple[str, str, int]]) -> None:
    bait = subprocess.Popen(hosts.on_home(sys.executable, "-c", BAIT), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert bait.stdout is not None
        open_port = int(bait.stdout.readline())
        ports = json.dumps([*sorted({port for _, _, port in listeners}), open_port])
        attack = hosts.on_peer(sys.executable, "-c", ATTACK, hosts.address, ports)
        done = subprocess.run(attack, capture_output=True, text=True, timeout=500)
    finally:
        bait.communicate("")
    assert json.loads(done.stdout) == [open_port], done.stderr


@pytest.mark.usefixtures("listeners")
def test_no_other_user_enters_the_folder_of_a_ray_at_work(work: Path) -> None:
    # Ray opens its own folder to everybody: who can write in it can put another token or socket in the place of Ray's.
    assert json.loads((work / "folder.json").read_text()) == {"mode": 0o700, "outside": []}


@pytest.mark.usefixtures("listeners")
def test_no_secret_is_in_rays_logs_or_in_its_arguments(work: Path) -> None:
    secrets = [canaries.canary(name) for name in canaries.environment()]
    assert len(list((work / "of-ray").rglob("*.log"))) >= 3
    assert "gcs_server" in (work / "of-ray" / "commands").read_text()
    assert canaries.found_in(work, secrets) == []


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_ray_with_a_token_lets_nobody_in_without_it(mode: str, hosts: Hosts, listeners: list[tuple[str, str, int]]) -> None:
    port = next(port for command, _, port in listeners if "gcs_server" in command)
    environment = {**os.environ, "RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": WRONG_TOKEN}
    command = hosts.on_home(sys.executable, "-c", JOIN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 4, done.stderr
    wanted = "refuses this token" if mode == "token" else "asks for a token"
    assert re.match(rf"cluster.address: 127.0.0.1:{port} {wanted}; .*RAY_AUTH_TOKEN", done.stdout), done.stdout
    assert WRONG_TOKEN not in done.stdout + done.stderr


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (inner or found).is_loopback
