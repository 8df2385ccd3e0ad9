"""Secrets that are planted, and the search for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

IN_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "RAY_AUTH_TOKEN",
    "GITHUB_TOKEN",
    "HF_TOKEN",
    "DB_PASSWORD",
    "SERVICE_API_KEY",
    "CLIENT_SECRET",
    "GOOGLE_CREDENTIALS",
    "NPM_TOKEN",
)
IN_ADDRESSES = ("DATABASE_URL", "PIP_INDEX_URL", "MESSAGE_BROKER", "SENTRY_DSN")
"""Variables whose names say nothing, with a user and a password in an address."""


def canary(place: str) -> str:
    """Return the secret that is planted in a place."""
    return f"canary-{place.lower().replace('_', '-')}-5e1f"


def environment() -> dict[str, str]:
    """Return variables that hold secrets."""
    return {
        **{name: canary(name) for name in IN_VARIABLES},
        **{name: f"https://ann:{canary(name)}@host.invalid/x" for name in IN_ADDRESSES},
    }


def found_in(folder: Path, secrets: list[str], planted: tuple[Path, ...] = ()) -> list[str]:
    """Return each file below a folder that holds a secret, but for those in which it was planted."""
    found = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or path in planted:
            continue
        content = path.read_bytes()
        found += [f"{path}: {secret}" for secret in secrets if secret.encode() in content]
    return found


@contextmanager
def watched_command_lines(seen: set[str]) -> Iterator[None]:
    """Collect the command lines of this process's children while a block runs: every user of the machine can see them."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
