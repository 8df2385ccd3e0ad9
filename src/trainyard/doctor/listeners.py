"""Who listens where: Ray, MLflow and our own processes, and whether what others can reach asks who they are."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import psutil

from trainyard.doctor.finding import SECURITY, Finding, ok, problem, warning
from trainyard.doctor.web import asks_for_password
from trainyard.training.access import MODE, ask_head

Owner = Literal["Ray", "MLflow", "Trainyard"]
SHOWN_PORTS = 3


@dataclass(frozen=True, slots=True)
class Program:
    """A process of ours, and the addresses that it listens on."""

    pid: int
    owner: Owner
    part: str
    """Such as `gcs_server`."""
    ports: tuple[tuple[str, int], ...]
    mode: str | None
    """RAY_AUTH_MODE in its environment; None where this user may not look."""


def programs() -> list[Program]:
    """Return the processes of Ray, MLflow and ourselves that this user can see."""
    ports: dict[int, list[tuple[str, int]]] = {}
    for found in _connections():
        if found.pid and found.status == psutil.CONN_LISTEN:
            ports.setdefault(found.pid, []).append((found.laddr.ip, found.laddr.port))
    seen = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if process.pid != os.getpid() and (what := kind(command)):
            seen.append(Program(process.pid, *what, tuple(sorted(set(ports.get(process.pid, ())))), _mode(process)))
    return seen


def kind(command: list[str]) -> tuple[Owner, str] | None:
    """Return to whom a command line belongs, and which part it is; None where it is not ours to judge."""
    line = " ".join(command).strip()
    if line.startswith("ray::"):
        return "Ray", line.removeprefix("ray::").split("(")[0].split(".")[0].strip()
    for part in ("gcs_server", "raylet"):
        if command and command[0].endswith(f"/ray/core/src/ray/{part.partition('_')[0]}/{part}"):
            return "Ray", part
    for word in command[1:5]:
        if "/ray/dashboard/" in word or "/ray/autoscaler/_private/" in word or "/ray/util/client/server" in word:
            return "Ray", os.path.basename(word).removesuffix(".py")
    if "mlflow.server" in line or "-m mlflow server" in line or (len(command) > 2 and command[1].endswith("/bin/mlflow")):
        return "MLflow", "server"
    for word in command[1:3]:
        folder, script = os.path.split(word)
        if os.path.basename(folder) == "pipeline" and script in ("prepare.py", "train.py", "evaluate.py", "export.py"):
            return "Trainyard", script
    return None


def examine_listeners(seen: list[Program] | None = None) -> list[Finding]:
    """Return a line about each owner: what is for this machine alone, and what is open."""
    seen = programs() if seen is None else seen
    findings = []
    for owner in ("Ray", "MLflow", "Trainyard"):
        own = [program for program in seen if program.owner == owner and program.ports]
        if not own:
            findings.append(ok(f"{owner} listens", "nowhere: none runs that this user can see"))
            continue
        outside = [program for program in own if any(not loopback(host) for host, _ in program.ports)]
        inside = [program for program in own if program not in outside]
        if inside:
            findings.append(ok(f"{owner} listens", f"on this machine alone: {_places(inside)}"))
        if outside:
            findings.extend(_open_mlflow(outside) if owner == "MLflow" else _open_ray(outside, owner))
    return findings


def loopback(host: str) -> bool:
    """Return whether an address that is listened on is this machine's own; mapped IPv4 addresses too."""
    address = ipaddress.ip_address(host.partition("%")[0])
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback


def _open_ray(outside: list[Program], owner: str) -> list[Finding]:
    """Judge what others can reach by what its head answers, and without a head here by how it was started."""
    places = _places(_outer(outside))
    answers = {
        ask_head(f"{_reachable(host)}:{port}", None)[0]
        for program in outside
        for host, port in program.ports
        if program.part == "gcs_server"
    } - {"unknown"}
    modes = {program.mode for program in outside}
    if "welcome" in answers or (not answers and modes - {"token", None}):
        fix = f"stop it, and start it with {MODE}=token (docs/safety.md): whoever reaches it can run any program as its user"
        return [problem(f"{owner} listens", f"open to the network, without a token: {places}", fix, SECURITY)]
    if "refused" in answers or modes == {"token"}:
        return [ok(f"{owner} listens", f"on the network, and asks for a token: {places}")]
    return [
        warning(
            f"{owner} listens",
            f"on the network, with or without a token: {places}",
            f"see whether it was started with {MODE}=token",
        )
    ]


def _open_mlflow(outside: list[Program]) -> list[Finding]:
    findings = []
    for program in outside:
        for host, port in program.ports:
            if loopback(host):
                continue
            guarded = asks_for_password(f"http://{_reachable(host)}:{port}")
            where = f"{host}:{port} (process {program.pid})"
            if guarded:
                findings.append(ok("MLflow listens", f"on the network, and asks for a password: {where}"))
            elif guarded is None:
                fix = "see what it is; `trainyard ui --host` asks for a password"
                findings.append(warning("MLflow listens", f"on the network, and did not say whether it asks: {where}", fix))
            else:
                fix = "stop it, and start it with `trainyard ui --host` (docs/safety.md): anybody may read, change and delete"
                findings.append(problem("MLflow listens", f"open to the network, without a password: {where}", fix, SECURITY))
    return findings


def _reachable(host: str) -> str:
    """Return an address to connect to for one that is listened on."""
    plain = host.removeprefix("::ffff:")
    return {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(plain, f"[{plain}]" if ":" in plain else plain)


def _outer(found: Iterable[Program]) -> list[Program]:
    """Return programs with those of their addresses alone that others can reach."""
    return [replace(program, ports=tuple(place for place in program.ports if not loopback(place[0]))) for program in found]


def _shown(host: str) -> str:
    plain = host.removeprefix("::ffff:")
    return f"[{plain}]" if ":" in plain else plain


def _places(found: Iterable[Program]) -> str:
    places = [f"{program.part} {_shown(host)}:{port}" for program in found for host, port in program.ports]
    more = f" and {len(places) - SHOWN_PORTS} more" if len(places) > SHOWN_PORTS else ""
    return ", ".join(places[:SHOWN_PORTS]) + more


def _connections() -> list[psutil._common.sconn]:
    try:
        return list(psutil.net_connections("inet"))
    except psutil.AccessDenied:  # macOS shows a user its own processes' alone
        return []


def _mode(process: psutil.Process) -> str | None:
    try:
        return str(process.environ().get(MODE, "")).lower()
    except psutil.Error:
        return None
