"""The project: git, dvc.lock, locks and processes that ended runs left, secrets in DVC's settings."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard.doctor.finding import MACHINE, SECURITY, Finding, ok, problem, warning
from trainyard.doctor.listeners import Program
from trainyard.dvc_settings import settings
from trainyard.dvc_stages import DO_WITHOUT, has_repository, without_git
from trainyard.errors import InputError
from trainyard.masking import holds_secret
from trainyard.provenance import ownership

SECRET_KEYS = (
    "password",
    "secret_access_key",
    "session_token",
    "sas_token",
    "account_key",
    "connection_string",
    "client_secret",
)
"""Of a DVC remote."""


def examine_git(root: Path) -> list[Finding]:
    """Say which commit is checked out, and whether files differ from it."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return [_without_commit(root)]
    changed = len((_git(root, "status", "--porcelain") or "").splitlines())
    differ = f"{changed} files differ" if changed > 1 else "1 file differs" if changed else "nothing differs"
    return [ok("git", f"{commit}, {differ} from it")]


def _without_commit(root: Path) -> Finding:
    make = "git init; git add -A; git commit"
    if (command := ownership(root)) is not None:
        return warning("git", "refuses a project that belongs to another user: runs are recorded without a commit", command)
    if not (root / ".dvc").is_dir() or has_repository(root) or without_git(root):
        return warning("git", "no commit here: no run can be traced back to its code", make)
    return problem("git", "no repository here, without which dvc refuses to work", f"{make}; or: {DO_WITHOUT}", MACHINE)


def examine_lock_file(root: Path) -> list[Finding]:
    """See whether dvc.lock is whole."""
    path = root / "dvc.lock"
    if not path.exists():
        if not (root / "dvc.yaml").exists():
            return [warning("dvc.lock", f"{root} is no project: it has no dvc.yaml", "change to the project's folder")]
        return [ok("dvc.lock", "not there yet: nothing has run")]
    try:
        values = YAML(typ="safe", pure=True).load(path)
    except (OSError, ValueError, YAMLError) as error:
        values = str(error).splitlines()[0]
    if not isinstance(values, dict) or not isinstance(values.get("stages"), dict) or "schema" not in values:
        return [problem("dvc.lock", "is torn: it is not what DVC writes", "trainyard repair", SECURITY)]
    broken = [name for name, stage in values["stages"].items() if not isinstance(stage, dict) or "cmd" not in stage]
    if broken:
        return [problem("dvc.lock", f"is torn in {', '.join(map(str, broken))}", "trainyard repair", SECURITY)]
    return [ok("dvc.lock", f"whole, {len(values['stages'])} stages")]


def examine_locks(root: Path) -> list[Finding]:
    """Look for locks of DVC whose processes have ended, and say which stages work now."""
    findings = []
    path = root / ".dvc" / "tmp" / "rwlock"
    if path.exists() and path.stat().st_size:
        try:
            holders = _holders(json.loads(path.read_text(encoding="utf-8")))
            ended = sorted(pid for pid in holders if not psutil.pid_exists(pid))
            text = f"names processes that have ended: {', '.join(map(str, ended))}" if ended else ""
        except (ValueError, AttributeError, TypeError):
            text = "is torn"
        if text:
            findings.append(warning("DVC's lock", f"{path} {text}", "trainyard repair"))
    working = [lock.stem for lock in sorted((root / ".trainyard" / "locks").glob("*.lock")) if _is_held(lock)]
    findings.append(ok("stages at work", ", ".join(working) or "none"))
    return findings


def examine_leftovers(seen: list[Program]) -> list[Finding]:
    """Look for Ray and MLflow processes, and folders, whose training or server has ended."""
    folders = [lock.parent for lock in Path(tempfile.gettempdir()).glob("ty-*/lock") if not _is_held(lock)]
    dead = tuple(f"{folder}/" for folder in folders)
    left = [program for program in seen if program.owner == "Ray" and dead and any(f in _command(program.pid) for f in dead)]
    findings = []
    if left:
        pids = " ".join(str(program.pid) for program in left)
        findings.append(warning("left over", f"{len(left)} processes of a Ray whose training has ended", f"kill {pids}"))
    if folders:
        text = f"{len(folders)} folders of trainings that were killed: {', '.join(map(str, folders[:3]))}"
        findings.append(warning("left over", text, "nothing: the next training deletes them"))
    orphans = [program.pid for program in seen if program.owner == "MLflow" and _parent(program.pid) == 1 and os.getpid() != 1]
    if orphans:
        text = f"an MLflow server without a parent, process {', '.join(map(str, orphans))}"
        findings.append(warning("left over", text, f"if nobody needs it: kill {' '.join(map(str, orphans))}"))
    return findings or [ok("left over", "nothing of earlier runs")]


def examine_settings(root: Path) -> list[Finding]:
    """Look for passwords in DVC's settings: those in .dvc/config are committed."""
    findings = []
    try:
        settings(root)
    except InputError as error:
        findings.append(problem("DVC's settings", str(error), "git checkout .dvc/config, or mend it by hand", MACHINE))
    for section, values in remotes(root / ".dvc" / "config").items():
        secret = [key for key, value in values.items() if key in SECRET_KEYS or holds_secret(value)]
        if secret:
            fix = f"move it: dvc remote modify --local {section} ..., and change it, for git remembers"
            text = f".dvc/config holds {', '.join(secret)} of remote {section}, and is committed"
            findings.append(problem("secrets", text, fix, SECURITY))
    local = root / ".dvc" / "config.local"
    if local.exists() and local.stat().st_mode & 0o077:
        findings.append(warning("secrets", f"{local} can be read by others on this machine", f"chmod 600 {local}"))
    return findings or [ok("secrets", "none in .dvc/config")]


def remotes(path: Path) -> dict[str, dict[str, str]]:
    """Return the remotes that a file of DVC's settings names; `core` holds which one is used."""
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (ConfigError, UnicodeDecodeError):
        return {}
    found = {}
    for section in parser.sections():
        name = section.strip("'\"")
        if name.startswith("remote "):
            found[name.removeprefix("remote ").strip(" \"'")] = dict(parser[section])
    return found


def _holders(values: dict[str, dict[str, Any]]) -> set[int]:
    """Return the processes in DVC's rwlock: one writer a path, and a list of readers."""
    found = set()
    for held in (*values.get("write", {}).values(), *values.get("read", {}).values()):
        for holder in held if isinstance(held, list) else [held]:
            found.add(int(holder["pid"]))
    return found


def _is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file, without taking it for a moment: somebody else may want it just then."""
    try:
        status = lock.stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return True
    mark = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(mark in line.split() for line in table.splitlines())


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _parent(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.Error:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=8)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
