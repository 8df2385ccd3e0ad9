"""What a training needs from elsewhere: the tracking server, DVC's remote, a cluster; each asked for 5 s at most."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from trainyard.doctor.finding import MACHINE, SECURITY, SERVICE, Finding, ok, problem, warning
from trainyard.doctor.project import remotes
from trainyard.doctor.web import ANSWER_SECONDS, SEARCH, ask, asks_for_password, credentials, seconds_since
from trainyard.masking import mask
from trainyard.tracking.address import database_file
from trainyard.training.access import MODE, TOKEN, TOKEN_PATH, ask_head, host_of, is_loopback, token_path

PORTS = {"http": 80, "https": 443, "ssh": 22, "sftp": 22}
CLOUDS = {"s3": "s3.amazonaws.com", "gs": "storage.googleapis.com", "azure": "blob.core.windows.net"}
SKEW_SECONDS = 30.0


def examine_tracking(uri: str) -> list[Finding]:
    """Ask the tracking server for its runs, or open the database."""
    if (path := database_file(uri)) is not None:
        return _database(path)
    if not uri.startswith(("http://", "https://")):
        return [ok("tracking", f"{mask(uri)}: not asked, as it is no web server")]
    bare, header = credentials(uri)
    fix = "start the server, or change MLFLOW_TRACKING_URI or tracking.uri; training goes on without"
    try:
        status, date = ask(f"{bare}{SEARCH}", header)
    except OSError as error:
        return [problem("tracking", f"{bare} does not answer ({mask(str(error))})", fix, SERVICE)]
    findings = []
    if status in (401, 403):
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if status == 403:
            fix += ", or start the server with this host name in --allowed-hosts"
        findings.append(problem("tracking", f"{bare} refuses this user ({status})", fix, SERVICE))
    elif status != 200:
        findings.append(problem("tracking", f"{bare} answers {status}: no MLflow server", fix, SERVICE))
    elif is_loopback(host_of(bare)) or asks_for_password(bare):
        findings.append(ok("tracking", f"{bare} answers"))
    else:
        fix = "start it with --app-name basic-auth (docs/safety.md)"
        found = f"{bare} is on a network and asks for no password"
        findings.append(problem("tracking", found, fix, SECURITY))
    if header and bare.startswith("http://") and not is_loopback(host_of(bare)):
        findings.append(warning("tracking", f"the password goes to {bare} unencrypted", "put the server behind https"))
    skew = seconds_since(date, time.time())
    if skew is not None and abs(skew) > SKEW_SECONDS:
        findings.append(warning("clock", f"{skew:+.0f} s from that of {bare}", "set the clock (chrony, ntpd)"))
    return findings


def _database(path: Path) -> list[Finding]:
    if not path.exists():
        return [ok("tracking", f"{path}: not there yet, made by the first training")]
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database:
            runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error as error:
        return [problem("tracking", f"{path}: {error}", "move it aside, or bring back a copy; runs are kept there", MACHINE)]
    return [ok("tracking", f"{path}: {runs} runs")]


def examine_remotes(root: Path) -> list[Finding]:
    """See whether each of DVC's remotes is there: a folder, or a host that accepts a connection."""
    found = remotes(root / ".dvc" / "config")
    for name, values in remotes(root / ".dvc" / "config.local").items():
        found.setdefault(name, {}).update(values)
    if not found:
        return [ok("DVC remote", "none: data and models are on this machine alone")]
    return [_remote(root, name, values) for name, values in found.items()]


def _remote(root: Path, name: str, values: dict[str, str]) -> Finding:
    about, url = f"DVC remote {name}", values.get("url", "")
    parts = urlsplit(values.get("endpointurl") or url)
    if not parts.scheme or parts.scheme in ("file", "local"):
        folder = (root / ".dvc" / (parts.path or url)).resolve()
        if folder.is_dir():
            return ok(about, f"{folder}")
        return problem(about, f"{folder}: no such folder", "mount it, or `dvc remote modify`", SERVICE)
    host, port = parts.hostname or "", _port(parts.scheme, parts.netloc)
    host = CLOUDS.get(parts.scheme, host)
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return problem(about, f"{mask(url)}: {host}:{port} does not answer ({error})", "see the network, or the url", SERVICE)
    return ok(about, f"{mask(url)}: {host}:{port} answers")


def _port(scheme: str, netloc: str) -> int:
    last = netloc.rpartition(":")[2]
    return int(last) if last.isdigit() else PORTS.get(scheme, 443)


def examine_tokens() -> list[Finding]:
    """See whether the files of Ray's tokens are their owner's alone."""
    paths = {Path.home() / ".ray" / "auth_token"}
    if (used := token_path()) is not None:
        paths.add(used)
    findings = []
    for path in sorted(paths):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            if path == used and os.environ.get(MODE) == "token":
                fix = f"copy it from the cluster's head, or name its file in {TOKEN_PATH}"
                findings.append(problem("token", f"{path}: not there", fix, MACHINE))
            continue
        if mode & 0o077:
            found = f"{path} can be read by others on this machine (mode {mode:04o})"
            findings.append(problem("token", found, f"chmod 600 {path}; and change it if others were here", SECURITY))
        else:
            findings.append(ok("token", f"{path} is its owner's alone"))
    if os.environ.get(TOKEN):
        findings.append(ok("token", f"in the environment ({TOKEN})"))
    return findings or [ok("token", "none, and none is needed on this machine")]


def examine_cluster(address: str, insecure: bool) -> list[Finding]:
    """Ask a cluster's head whether it is there, which version it has, and whom it lets in."""
    about, target = "cluster", address.rpartition("//")[2].rstrip("/")
    host, port = host_of(address), target.rpartition(":")[2]
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            return [problem(about, f"{target} does not answer ({error})", "start it, or see its address", SERVICE)]
    path, token = token_path(), os.environ.get(TOKEN, "")
    if path is not None and path.is_file():
        token = path.read_text(encoding="utf-8").strip()
    without, found = ask_head(address, None)
    network = not is_loopback(host)
    if without == "unknown":
        fix = "name the head's own port (6379), if this is not meant"
        return [warning(about, f"{target} answers, but not as the head of a Ray: not known whom it lets in", fix)]
    findings = []
    if without == "welcome" and network:
        fix = f"start it with {MODE}=token (docs/safety.md): whoever reaches it can run any program as its user"
        level = warning(about, f"{target} lets anybody in, as cluster.insecure: true accepts", fix)
        findings.append(level if insecure else problem(about, f"{target} lets anybody in", fix, SECURITY))
    elif without == "refused":
        with_token, found = ask_head(address, token) if token else ("refused", "")
        if with_token != "welcome":
            fix = f"give the cluster's own token in {TOKEN_PATH} or {TOKEN}, with {MODE}=token"
            return [problem(about, f"{target} asks for a token, and refuses {'this one' if token else 'none'}", fix, SERVICE)]
        findings.append(ok(about, f"{target} asks for a token, and takes this one"))
        if os.environ.get(MODE) != "token":
            findings.append(warning(about, f"{MODE} is not set here, so Ray would send no token", f"export {MODE}=token"))
    else:
        findings.append(ok(about, f"{target} answers, on this machine alone"))
    if found and found != version("ray"):
        fix = "install the same on both; Ray refuses another one"
        findings.append(problem(about, f"has Ray {found}, here is {version('ray')}", fix, MACHINE))
    return findings
