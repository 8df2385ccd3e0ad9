"""Ray on machines reached by ssh: a real server of ssh on loopback, as two hosts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FAKE_RAY = """#!/usr/bin/env bash
echo "$@" >>"$(dirname "$0")/../../said"
echo "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $(cat "$RAY_AUTH_TOKEN_PATH")" >>"$(dirname "$0")/../../said"
[ ! -e "$(dirname "$0")/../../broken" ] || { echo "no memory"; exit 1; }
echo "This command will run in --block mode"
sleep 1000 & wait
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ssh_options(tmp_path: Path) -> Iterator[str]:
    """Options for ssh that reach a server on loopback under any name."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here (apt-get install openssh-server)")
    if os.geteuid() != 0:
        pytest.skip("a server of ssh needs root to let anybody in")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "sshd.conf"
    home = tmp_path / "home"
    home.mkdir()
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nSetEnv HOME={home}\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    options = f"-F none -i {tmp_path}/user -p {port} -o HostName=127.0.0.1 -o StrictHostKeyChecking=no -o BatchMode=yes"
    options += " -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=60"
    try:
        deadline = time.monotonic() + 120
        while subprocess.run(["ssh", *options.split(), "probe", "true"], capture_output=True).returncode:
            assert time.monotonic() < deadline, "sshd lets nobody in"
            time.sleep(0.2)
        yield options
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose Ray writes down how it was started."""
    ray = tmp_path / "project" / ".venv" / "bin" / "ray"
    ray.parent.mkdir(parents=True)
    ray.write_text(FAKE_RAY)
    ray.chmod(0o755)
    return tmp_path / "project"


@pytest.fixture
def cluster(root: Path, tmp_path: Path, project: Path) -> Run:
    """Run the script, on hosts, with options for ssh."""

    def run(command: str, hosts: str, options: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "hosts.txt").write_text(hosts)
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "TRAINYARD_DIR": str(project),
            "TRAINYARD_SSH": options,
            "TRAINYARD_PORT": "6390",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        }
        script = root / "deploy" / "ssh" / "cluster.sh"
        return subprocess.run(
            ["bash", str(script), command, str(tmp_path / "hosts.txt")], env=environment, capture_output=True, text=True
        )

    return run


def test_two_hosts_start_tell_and_end(cluster: Run, ssh_options: str, project: Path, tmp_path: Path) -> None:
    hosts = "# mine\nhead-1 10.0.0.1\nworker-1\n"
    up = cluster("up", hosts, ssh_options)
    try:
        assert up.returncode == 0, up.stderr
        assert "head-1 (head): runs\nworker-1 (worker): runs\n" in up.stdout
        assert "RAY_ADDRESS=10.0.0.1:6390" in up.stdout
        token = (tmp_path / "token").read_text()
        assert len(token) == 64
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        said = (project / "said").read_text()
        assert said.count(f"token 600 {token}") == 2
        assert "--head --port=6390 --dashboard-host=127.0.0.1 --node-ip-address=10.0.0.1" in said
        assert "--address=10.0.0.1:6390" in said
        assert token not in up.stdout + up.stderr
        again = cluster("up", hosts, ssh_options)
        assert again.stdout.count("runs already") == 2
        assert (project / "said").read_text() == said
        assert cluster("status", hosts, ssh_options).stdout.count(": runs\n") == 2
    finally:
        down = cluster("down", hosts, ssh_options)
    assert down.stdout.count("ended") == 2
    assert cluster("status", hosts, ssh_options).stdout.count("does not run") == 2


def test_a_ray_that_ends_at_once_is_told_with_its_own_words(cluster: Run, ssh_options: str, project: Path) -> None:
    (project / "broken").touch()
    up = cluster("up", "head-1 10.0.0.1\nworker-1\n", ssh_options)
    assert up.returncode == 4
    assert "head-1 (head): ERROR:" in up.stderr and "no memory" in up.stderr
    assert "worker-1" not in up.stderr, "without a head the others have nobody to join"


def test_a_host_without_the_project_is_told(cluster: Run, ssh_options: str, project: Path) -> None:
    shutil.rmtree(project / ".venv")
    up = cluster("up", "head-1 10.0.0.1\n", ssh_options)
    assert up.returncode == 4
    assert "run make setup" in up.stderr


@pytest.mark.parametrize(
    "line", ["head; touch /tmp/x", "$(reboot)", "-oProxyCommand=true", "head address more", "head\taddr;x"]
)
def test_lines_that_are_no_hosts_are_refused_before_anything_runs(cluster: Run, line: str) -> None:
    up = cluster("up", f"{line}\n")
    assert up.returncode == 2
    assert "is no host" in up.stderr


def test_a_token_that_others_read_is_refused(cluster: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 64)
    (tmp_path / "token").chmod(0o644)
    up = cluster("up", "head 10.0.0.1\n", "-F none -o BatchMode=yes -o ConnectTimeout=1")
    assert up.returncode == 5
    assert "chmod 600" in up.stderr


def test_no_hosts_are_told(cluster: Run) -> None:
    assert "names no host" in cluster("up", "# nobody\n").stderr
