"""Several hosts on one machine: each a network, process and mount namespace, all on one bridge.

A host has its own address, name, processes, /dev/shm, HOME and folder for temporary files; only the files of the machine
are shared, as a network file system would share them. Links are cut and hosts killed for real. Needs root.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

PLACE = Path(tempfile.gettempdir())
PREFIX = "tyb-"
DEADLINE_SECONDS = 600.0
# PID 1 of a host: waits for whatever loses its parent, as an init does.
INIT = """
set -e
mount --make-rprivate /
mount --bind "$1" "$2"
mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm
mount --bind "$2/hosts" /etc/hosts
hostname "$3"
touch "$2/up"
while :; do sleep 3600 & wait $!; done
"""


def wait_for(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _attempt(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True)


def lacking() -> str | None:
    """Return why this machine can have no hosts, or None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "unshare", "nsenter", "setpriv", "mount", "hostname", "bash"):
        if shutil.which(program) is None:
            return f"this machine has no `{program}`"
    name = f"{PREFIX}{os.getpid() % 100_000}p"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", f"{name}w")
        _run("ip", "link", "add", f"{name}b", "type", "bridge")
        _run("nsenter", f"--net=/run/netns/{name}", "unshare", "-m", "-p", "-u", "-f", "mount", "--make-rprivate", "/")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine makes no hosts of its own: {getattr(error, 'stderr', error)}".strip()
    finally:
        _attempt("ip", "link", "del", f"{name}b")
        _attempt("ip", "link", "del", f"{name}v")
        _attempt("ip", "netns", "del", name)
    return None


class Bench:
    """A set of hosts. What a killed session left of its own is taken away first."""

    def __init__(self) -> None:
        sweep()
        # Short, because the sockets of Ray in it may have no more than 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
        self.lock: IO[str] = (self.folder / "lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.mark = self.folder.name
        self.private = self.folder / "p"
        self.private.mkdir()
        self.store = self.folder / "store"
        self.store.mkdir()
        # One subnet a bench, so that two of them on one machine are not mixed up by a reader of their logs.
        self.subnet = f"10.{os.getpid() % 200 + 20}.{int.from_bytes(os.urandom(1), 'big')}"
        self.hosts: dict[str, Host] = {}
        self.bridge = _interface(self.mark, "b")
        _run("ip", "link", "add", self.bridge, "type", "bridge")
        _run("ip", "link", "set", self.bridge, "up")

    def host(self, name: str, *, hidden: Sequence[Path] = ()) -> Host:
        """Add a host and switch it on; the `hidden` folders are empty there."""
        host = Host(self, name, f"{self.subnet}.{len(self.hosts) + 1}", hidden)
        self.hosts[name] = host
        known = "".join(f"{other.address} {other.name}\n" for other in self.hosts.values())
        for other in self.hosts.values():
            # Debian's installer names a machine so, and gloo would then listen where no other host reaches it.
            (other.folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {other.name}\n{known}")
        host.switch_on()
        return host

    def close(self) -> None:
        """End every host, and take away all that was made for them."""
        _clear(self.mark)
        self.lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Host:
    """One host of a bench."""

    def __init__(self, bench: Bench, name: str, address: str, hidden: Sequence[Path]) -> None:
        self.bench = bench
        self.name = name
        self.address = address
        self.hidden = hidden
        self.namespace = f"{bench.mark}-{name}"
        self.link = _interface(bench.mark, name)
        self.folder = bench.folder / name
        self.folder.mkdir()
        self.init: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GLOO_", "NCCL_", "PYTEST"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(bench.private / "home"),
            "TMPDIR": str(bench.private / "tmp"),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Fonts are listed once, and not by every host anew after a loss.
            "MPLCONFIGDIR": str(bench.folder / "matplotlib"),
            "TRAINYARD_TEST": bench.mark,
        }

    def switch_on(self) -> None:
        """Connect the host and start its first process. Its folder is empty after a loss, as a fresh machine's is."""
        for part in ("home", "tmp", "ray"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / part).mkdir()
        (self.folder / "up").unlink(missing_ok=True)
        if not Path("/run/netns", self.namespace).exists():
            _run("ip", "netns", "add", self.namespace)
            _run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
            _run("ip", "link", "set", self.link, "master", self.bench.bridge, "up")
            self._ip("addr", "add", f"{self.address}/24", "dev", "eth0")
            self._ip("link", "set", "lo", "up")
            self._ip("link", "set", "eth0", "up")
        # Gone with this process, also where that is killed.
        namespaces = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{self.namespace}"]
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = ["bash", "-c", INIT, "init", str(self.folder), str(self.bench.private), self.name]
        # A log on the disk and no pipe: nobody would read it, and a full one stops its writer.
        with (self.bench.folder / f"{self.name}.init").open("wb") as log:
            self.init = subprocess.Popen(
                [*namespaces, *unshare, *script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for((self.folder / "up").exists, f"{self.name} to be up")
        (child,) = psutil.Process(self.init.pid).children()
        self.pid = child.pid
        for folder in self.hidden:
            subprocess.run([*self.enter(), "mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True, capture_output=True)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command on the host to its end and return what it printed.

        Raises:
            AssertionError: its exit status was not 0.
        """
        done = subprocess.run(
            [*self.enter(), *command],
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, f"{self.name}: {command}\n{done.stdout}"
        return done.stdout

    def start(self, *command: str, log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command on the host."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [*self.enter(), *command],
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, part: str = "") -> list[psutil.Process]:
        """Return the host's processes whose command line holds `part`, those that have ended left out."""
        found = []
        for pid in _attempt_pids(self.namespace):
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and part in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self) -> None:
        """Take the host's power away: all its processes end at once, with no chance to say so."""
        with suppress(ProcessLookupError):
            # The first process of a process namespace takes all others with it.
            os.kill(self.pid, signal.SIGKILL)
        if self.init is not None:
            self.init.kill()
            self.init.wait()
        wait_for(lambda: not self.processes(), f"the end of {self.name}")

    def freeze(self) -> None:
        """Stop every process where it is."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.suspend()

    def thaw(self) -> None:
        """Let every process go on."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.resume()

    def bind(self, source: Path, target: Path) -> None:
        """Let the host see one folder where another one is, until it is switched off."""
        subprocess.run([*self.enter(), "mount", "--bind", str(source), str(target)], check=True, capture_output=True)

    def cut(self) -> None:
        """Cut the host's link: nothing arrives, and no end is told of it."""
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        """Bring the host's link back."""
        _run("ip", "link", "set", self.link, "up")

    def slow(self, rate: str) -> None:
        """Let no more than `rate` (`1mbit`) out of the host.

        Raises:
            subprocess.CalledProcessError: this machine shapes no traffic.
        """
        shape = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        _run("nsenter", f"--net=/run/netns/{self.namespace}", "tc", "qdisc", "replace", "dev", "eth0", *shape)

    def quicken(self) -> None:
        """Let the link be as fast as it can."""
        _run("nsenter", f"--net=/run/netns/{self.namespace}", "tc", "qdisc", "del", "dev", "eth0", "root")

    def enter(self) -> list[str]:
        """Return the command that runs another one on the host."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--net", "--pid"]

    def _ip(self, *arguments: str) -> None:
        _run("ip", "-n", self.namespace, *arguments)


def sweep() -> None:
    """Take away the hosts of sessions that were killed."""
    for lock in PLACE.glob(f"{PREFIX}*/lock"):
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(lock.parent.name)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _clear(mark: str) -> None:
    listed = Path("/run/netns")
    for namespace in sorted(listed.glob(f"{mark}-*")) if listed.is_dir() else []:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (pids := _attempt_pids(namespace.name)) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        _attempt("ip", "netns", "del", namespace.name)
    # The other ends of the links went with their namespaces.
    _attempt("ip", "link", "del", _interface(mark, "b"))


def _attempt_pids(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def _interface(mark: str, name: str) -> str:
    """Return a name of a network interface, which may have 15 characters."""
    return f"{mark.removeprefix(PREFIX)}-{name}"[:15]
