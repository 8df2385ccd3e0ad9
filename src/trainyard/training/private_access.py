"""Who can reach a private Ray: nobody but this user of this machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.training.access import MODE, TOKEN, TOKEN_PATH, loopback_interface

TOKEN_FILE = "token"
"""In the folder of a private Ray."""


@contextmanager
def private_access(folder: Path) -> Iterator[None]:
    """Have a Ray that starts in this block listen on the loopback address alone, and answer only to a token of its own.

    Other users of this machine reach the loopback address too. The token lies in `folder`, which is this user's alone,
    and the user's own in ~/.ray, which is for clusters, is left alone. Afterwards everything is as it was before.
    """
    from ray._private import ray_constants

    path = folder / TOKEN_FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    interface = loopback_interface()
    changes = {
        MODE: "token",
        TOKEN: None,  # would be taken before the file
        TOKEN_PATH: str(path),
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
    }
    before = {name: os.environ.get(name) for name in changes}
    spread = ray_constants.ENABLE_RAY_CLUSTER
    # Ray replaces the loopback address by the machine's own where it expects other nodes. The variable of this
    # setting would be handed on to every `ray start` below this process, and is read at Ray's import only.
    ray_constants.ENABLE_RAY_CLUSTER = False
    _set_environment(changes)
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = spread
        _set_environment(before)


def keep_loopback() -> None:
    """Have this process join a private Ray of another one: from here on, Ray leaves the loopback address as it is.

    It would replace it by the machine's own, on which that Ray does not listen, and try for ever.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _set_environment(values: dict[str, str | None]) -> None:
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # Ray keeps what it read of them; a second Ray in this process would be asked with the token of the first.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
