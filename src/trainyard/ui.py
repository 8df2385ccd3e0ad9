"""The pages of this project's runs: for this machine alone, or on a network behind a password."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil

from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.files import write_whole
from trainyard.tracking.address import database_file, tracking_uri
from trainyard.training.access import LOOPBACK, is_loopback
from trainyard.training.cluster_config import TrackingConfig

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
USER = "admin"
SHORTEST_PASSWORD = 12
"""Characters."""
COMMON = ("password", "admin", "mlflow", "trainyard", "changeme", "letmein", "welcome", "qwerty", "123456", "abcdef")
SETTINGS = """\
[mlflow]
database_uri = sqlite:///{database}
admin_username = {user}
default_permission = NO_PERMISSIONS
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
"""


def serve(root: Path, tracking: TrackingConfig, host: str, port: int, names: Sequence[str]) -> None:
    """Become the MLflow server; nothing returns from here.

    Args:
        root: of the project.
        tracking: where its runs are recorded.
        host: address to listen on. What is not the loopback address asks for a password.
        port: to listen on.
        names: further host names under which browsers reach it.

    Raises:
        InputError: there is nothing to serve here.
        IntegrityError: it is to listen on a network without a strong password.
        MachineError: the port is taken, or a library is missing.
    """
    uri = tracking_uri(root, tracking)
    if uri.startswith("http"):
        raise InputError("runs are recorded at MLFLOW_TRACKING_URI or tracking.uri; open that page in a browser instead")
    if (file := database_file(uri)) is not None and not file.exists():
        raise InputError(f"{file}: no such file, so there are no runs yet; run `make run` first")
    check_port(host, port)
    arguments = ["--host", host, "--port", str(port), "--workers", "1"]
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not as an argument: it may hold a password, and every user of the machine sees those.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    if not is_loopback(host):
        settings |= _behind_password(root / ".trainyard" / "ui", host, port, names)
        arguments += ["--app-name", "basic-auth"]
    os.environ.update(settings)
    shown = LOOPBACK if host in ("0.0.0.0", "::") else host
    sys.stdout.write(f"MLflow: http://{shown}:{port} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-W", "ignore", "-m", "mlflow", "server", *arguments])


def check_password(password: str | None) -> None:
    """Refuse a password that is missing or easily guessed; it is not shown.

    Raises:
        IntegrityError: saying what is wrong with it.
    """
    plain = (password or "").lower()
    if not password:
        problem = "is not set"
    elif len(password) < SHORTEST_PASSWORD:
        problem = f"has fewer than {SHORTEST_PASSWORD} characters"
    elif len(set(password)) < 6 or any(word in plain for word in COMMON):
        problem = "is easily guessed"
    else:
        return
    raise IntegrityError(
        f"{PASSWORD}: {problem}; what listens on a network asks for a password: "
        f"export {PASSWORD}=$(openssl rand -base64 18), or leave --host out to serve this machine alone"
    )


def _behind_password(folder: Path, host: str, port: int, names: Sequence[str]) -> dict[str, str]:
    """Return the settings of a server that shows nothing to somebody without the password."""
    check_password(os.environ.get(PASSWORD))
    if find_spec("flask_wtf") is None:
        raise MachineError("MLflow asks for passwords with a library that is missing here; run: pip install flask-wtf")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    database = folder / "auth.db"
    # MLflow reads the password at its first start only; the one that is set now is the one that counts.
    database.unlink(missing_ok=True)
    write_whole(folder / "auth.ini", SETTINGS.format(database=database, user=USER).encode())
    sys.stdout.write(f"listens on {host}, and asks for a password: user {USER}, and that of {PASSWORD}. It is sent ")
    sys.stdout.write("unencrypted: put a proxy with https in front of it, or use ssh -L, where the network is not yours\n")
    hosts = {"localhost", LOOPBACK, socket.gethostname(), *names, *_addresses(host)}
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        # A page elsewhere could otherwise have a browser ask under its own name (DNS rebinding).
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(sorted(f"{name}:{port}" for name in hosts)),
    }


def _addresses(host: str) -> set[str]:
    """Return the addresses that a server on `host` answers at."""
    if host not in ("0.0.0.0", "::"):
        return {host}
    own = [address for found in psutil.net_if_addrs().values() for address in found]
    return {str(address.address) for address in own if address.family == socket.AF_INET}


def check_port(host: str, port: int) -> None:
    """See whether a port is free.

    Raises:
        MachineError: it is not, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself does, so that connections of a server that just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MachineError(
                f"port {port}: cannot be listened on ({error.strerror}); choose another: make ui PORT={port + 1}"
            ) from None
