"""A training of two workers on a machine with no network but the loopback, no names, and next to no shared memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.test_signals import TRAIN, prepared
from trainyard.training.hardware import processors

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(processors() < 2, reason="needs two processors"),
]
WORLD = ("unshare", "--net", "--mount", "--uts", "--propagation", "private", "sh", "-ec")


def test_a_private_ray_needs_no_network_no_names_and_little_shared_memory(root: Path, tmp_path: Path) -> None:
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    tried = subprocess.run([*WORLD, "ip link set lo up; mount -t tmpfs -o size=8m tmpfs /dev/shm"], capture_output=True)
    if tried.returncode:
        pytest.skip(f"needs the right to make namespaces: {tried.stderr.decode().strip()}")
    project = prepared(root, tmp_path, {"workers: 0": "workers: 2"})
    (tmp_path / "hosts").write_text("192.0.2.7 nowhere\n")
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    script = "; ".join(
        [
            "ip link set lo up",
            "hostname nowhere",
            f"mount --bind {tmp_path}/hosts /etc/hosts",
            f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf",
            "mount -t tmpfs -o size=8m tmpfs /dev/shm",
            'test "$(getent hosts nowhere | cut -d" " -f1)" = 192.0.2.7',
            f"exec {' '.join(project.command(*TRAIN))}",
        ]
    )
    said = project.run(*WORLD, script)
    assert "cnn · train · best val accuracy" in said
