"""Two hosts on this machine: network namespaces at the two ends of one cable."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Hosts:
    """The names of two namespaces, and the address of the first as the second reaches it."""

    home: str
    peer: str
    address: str

    def on_home(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the first."""
        return ["ip", "netns", "exec", self.home, *command]

    def on_peer(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the second."""
        return ["ip", "netns", "exec", self.peer, *command]


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make them, and skip the test with the reason where this user may not."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` command, so no second host can be made")
    names = [f"ty-{os.getpid()}-{side}" for side in ("home", "peer")]
    addresses = ("10.213.7.1", "10.213.7.2")
    try:
        for name in names:
            made = _ip("netns", "add", name)
            if made.returncode:
                pytest.skip(f"this user may not make a network namespace: {made.stderr.strip()}")
        cable = ["link", "add", "ends", "netns", names[0], "type", "veth", "peer", "name", "ends", "netns", names[1]]
        if (made := _ip(*cable)).returncode:
            pytest.skip(f"this user may not lay a network cable: {made.stderr.strip()}")
        for name, address, other in zip(names, addresses, reversed(addresses), strict=True):
            for command in (
                ["link", "set", "lo", "up"],
                ["addr", "add", f"{address}/24", "dev", "ends"],
                ["link", "set", "ends", "up"],
                ["route", "add", "default", "via", other],
            ):
                done = _ip("-n", name, *command)
                assert not done.returncode, done.stderr
        yield Hosts(home=names[0], peer=names[1], address=addresses[0])
    finally:
        for name in names:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)
