"""The machine: libraries against the lock, processors, memory, GPUs, disks, limits, clock and names."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from trainyard.doctor.finding import MACHINE, Finding, ok, problem, warning
from trainyard.training.access import loopback_interface
from trainyard.training.hardware import processors
from trainyard.training.node_facts import towards
from trainyard.training.preflight import GIB, LITTLE_DISK, NO_DISK, SHARED_MEMORY, gib

LIBRARIES = ("torch", "ray", "pytorch-lightning", "mlflow", "dvc")
LITTLE_MEMORY = 2 * GIB
"""Two workers on a machine without a GPU take about 1.5 GiB with Ray."""
OPEN_FILES = 4096
LONGEST_TEMPORARY = 30
"""Characters. A socket's path may have 107; what Ray adds to the folder takes the rest."""
GPU_SECONDS = 8.0


def examine_libraries(root: Path) -> list[Finding]:
    """Compare the installed libraries with requirements.lock, and torch with its pin in pyproject.toml."""
    wanted = _locked(root)
    found, wrong = [f"Python {platform.python_version()}"], []
    for name in LIBRARIES:
        try:
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {installed}")
        # A build's own mark, as in 2.13.0+cu130, is the machine's.
        if (expected := wanted.get(name)) and installed.partition("+")[0] != expected:
            wrong.append(f"{name} is {installed}, locked is {expected}")
    if wrong:
        return [problem("libraries", "; ".join(wrong), "make setup", MACHINE)]
    return [ok("libraries", ", ".join(found) + (", as locked" if wanted else ""))]


def _locked(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, pattern in (("requirements.lock", r"^([\w.-]+)==([^\s\\;]+)"), ("pyproject.toml", r'"(torch)==([^"]+)"')):
        path = root / name
        if path.is_file():
            found.update(re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def examine_processors_and_memory() -> list[Finding]:
    """Look at processors, free memory, shared memory and the number of files that may be open."""
    memory = psutil.virtual_memory()
    findings = [ok("processors", f"{processors()} for this process, {os.cpu_count()} in the machine")]
    text = f"{gib(memory.available)} free of {gib(memory.total)}"
    if memory.available < LITTLE_MEMORY:
        findings.append(warning("memory", text, "end other programs, or set cluster.workers: 0"))
    else:
        findings.append(ok("memory", text))
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared)
        text = f"{gib(size.free)} free of {gib(size.total)}"
        if size.free < SHARED_MEMORY:
            findings.append(warning("/dev/shm", text, "in a container: --shm-size=1g, or an emptyDir with medium: Memory"))
        else:
            findings.append(ok("/dev/shm", text))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        findings.append(warning("open files", f"{soft} allowed", f"ulimit -n {min(hard, 65536) if hard > 0 else 65536}"))
    else:
        findings.append(ok("open files", f"{soft} allowed"))
    return findings


def examine_gpus() -> list[Finding]:
    """Compare the GPUs that the driver has with those that torch sees."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=GPU_SECONDS,
        )
    except FileNotFoundError:
        return [ok("GPUs", "none: no NVIDIA driver; training runs on processors")]
    except subprocess.TimeoutExpired:
        return [problem("GPUs", f"the driver does not answer within {GPU_SECONDS:.0f} s", "restart the machine", MACHINE)]
    cards = [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
    if not cards:
        return [ok("GPUs", "none: the driver has none; training runs on processors")]
    asked = "import torch; print(torch.cuda.device_count())"
    try:
        seen = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=GPU_SECONDS).stdout.strip()
    except subprocess.TimeoutExpired:
        return [warning("GPUs", f"driver: {len(cards)} x {cards[0]}; torch took too long to say", "run it again")]
    text = f"driver: {len(cards)} x {cards[0]}; torch sees {seen or 'none'}"
    if seen != str(len(cards)):
        fix = "see CUDA_VISIBLE_DEVICES, and whether this build of torch fits the driver"
        return [warning("GPUs", text, fix)]
    return [ok("GPUs", text)]


def examine_disks(places: dict[str, Path]) -> list[Finding]:
    """Look at the space of each place, and at the length of the temporary folder's name."""
    findings = []
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        size = shutil.disk_usage(there)
        text = f"{gib(size.free)} free of {gib(size.total)} at {place}"
        if not os.access(there, os.W_OK):
            findings.append(problem(f"disk: {name}", f"{place} cannot be written", "make it writable for this user", MACHINE))
        elif size.free < NO_DISK:
            findings.append(problem(f"disk: {name}", text, "make room there", MACHINE))
        elif size.free < LITTLE_DISK:
            findings.append(warning(f"disk: {name}", text, "make room there"))
        else:
            findings.append(ok(f"disk: {name}", text))
    temporary = tempfile.gettempdir()
    if len(temporary) > LONGEST_TEMPORARY:
        text = f"{temporary} is too long a name for the sockets that Ray makes in it"
        findings.append(problem("temporary folder", text, "export TMPDIR=/tmp", MACHINE))
    return findings


def examine_clock(files: list[Path]) -> list[Finding]:
    """Look for files of this project that are newer than now: then the clock was set back, or is another machine's."""
    now = time.time()
    ahead = [(path.stat().st_mtime - now, path) for path in files if path.exists()]
    worst, path = max(ahead, default=(0.0, Path()))
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now))}"
    if worst > 5:
        return [warning("clock", f"{text}: {path} is {worst:.0f} s in the future", "set the clock (chrony, ntpd)")]
    return [ok("clock", text)]


def examine_names(cluster_host: str | None) -> list[Finding]:
    """Look at what this machine's name means, and which interface workers would use towards a cluster."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        fix = f"add `127.0.0.1 {name}` to /etc/hosts"
        return [warning("host name", f"{name} has no address", fix), *_interface(cluster_host)]
    text = f"{name} is {address}"
    if cluster_host and address.startswith("127."):
        fix = "set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the interface that the nodes share"
        return [warning("host name", f"{text}: other nodes cannot reach that", fix), *_interface(cluster_host)]
    return [ok("host name", text), *_interface(cluster_host)]


def _interface(cluster_host: str | None) -> list[Finding]:
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    names = {address.address: name for name, found in psutil.net_if_addrs().items() for address in found}
    if chosen and chosen not in names.values():
        fix = f"set it to one of {', '.join(sorted(set(names.values())))}"
        return [problem("interface", f"GLOO_SOCKET_IFNAME is {chosen}, which this machine has not", fix, MACHINE)]
    if cluster_host is None:
        return [ok("interface", f"{loopback_interface()}: training on this machine uses no other")]
    interface, own = towards(cluster_host)
    if not own:
        return [warning("interface", f"no route to {cluster_host}", "see `ip route`")]
    return [ok("interface", f"{chosen or interface} ({own}) towards {cluster_host}")]
