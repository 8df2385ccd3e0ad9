"""Who can reach a Ray on a network: who has the token. Asks with gRPC, and imports no Ray."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil

from trainyard.errors import InputError, IntegrityError, MachineError, ServiceError
from trainyard.masking import mask

LOOPBACK = "127.0.0.1"
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ANSWER_SECONDS = 5.0


def loopback_interface() -> str:
    """Return the name of the network interface that only this machine reaches: lo on Linux.

    Raises:
        MachineError: there is none.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == LOOPBACK for address in addresses):
            return str(name)
    raise MachineError(f"no network interface has the address {LOOPBACK}; bring it up (`ip link set lo up`)")


def check_cluster(address: str, insecure: bool) -> None:
    """Refuse a cluster on a network that anybody may use, and one that refuses this user's token.

    Asked at once, because Ray itself would try for minutes with a wrong token.

    Raises:
        IntegrityError: anybody may use it, and `insecure` does not say that this is meant; or others can read the token.
        ServiceError: it refuses the token, or does not answer.
        MachineError: it is to be used with a token, and there is none.
    """
    with_token = os.environ.get(MODE, "").lower() == "token"
    token = read_token() if with_token else None
    shown, network = host_of(address), not is_loopback(host_of(address))
    answer, _ = ask_head(address, None)
    is_open = answer == "welcome" or (answer == "unknown" and not with_token)
    if is_open and network and not insecure:
        raise IntegrityError(
            f"cluster.address: {shown} is on a network and asks for no token, so whoever reaches it can run any program "
            f"there, as its user. Start the cluster with {MODE}=token, and set it and {TOKEN_PATH} here too "
            "(docs/safety.md), or accept the risk with cluster.insecure: true"
        )
    if answer == "refused" and (not token or ask_head(address, token)[0] == "refused"):
        given = (
            f"refuses this token; give it its own in {TOKEN_PATH} or {TOKEN}"
            if token
            else f"asks for a token; set {TOKEN_PATH}"
        )
        raise ServiceError(f"cluster.address: {address} {given}, with {MODE}=token (docs/safety.md)")


def ask_head(address: str, token: str | None) -> tuple[Literal["welcome", "refused", "unknown"], str]:
    """Ask a cluster's head whether it is there, with a token or without one; return its version of Ray with a welcome."""
    import grpc

    target = address.rpartition("//")[2]
    if not target.rpartition(":")[2].isdigit() or os.environ.get("RAY_USE_TLS") == "1":
        return "unknown", ""
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            alive = ask(b"", timeout=ANSWER_SECONDS, metadata=[("authorization", f"Bearer {token}")] if token else [])
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return "refused", ""
            # The port of `ray://` and of the job server speak otherwise; Ray tells what does not answer.
            return "unknown", ""
    found = re.search(rb"\d+\.\d+\.\d+\w*", alive)
    return "welcome", found[0].decode() if found else ""


def head_of(address: str) -> tuple[str, int]:
    """Return host and port of a cluster's head, where programs join it.

    Raises:
        InputError: it is no such address; Ray itself would look for a minute for what is there.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        known = not parts.scheme and not parts.path and not re.search(r"[\s@]", address)
        if known and parts.hostname and parts.port:
            return parts.hostname, parts.port
        kind = parts.scheme
    except ValueError:  # a port that is no number, or too large
        kind = ""
    told = {
        "http": ", which is the dashboard's, for `trainyard submit`",
        "https": ", which is the dashboard's, for `trainyard submit`",
        "ray": ", which is Ray Client's: through it no training can see the nodes",
    }.get(kind, "")
    shown = mask(address)
    raise InputError(f"cluster.address: found {shown!r}{told}; expected host:port of the head, such as 10.0.0.1:6379, or local")


def host_of(address: str) -> str:
    """Return the host in an address such as `10.0.0.1:6379`, `ray://head:10001` or `http://head:8265`."""
    return urlsplit(address if "://" in address else f"ray://{address}").hostname or address


def is_loopback(host: str) -> bool:
    """Return whether a host's every address is this machine's own loopback address. A name unknown here is none."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def token_path() -> Path | None:
    """Return the file that Ray reads its token from; None where the token itself is in the environment."""
    if os.environ.get(TOKEN):
        return None
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")


def read_token() -> str:
    """Return the token for clusters, after seeing to it that nobody else can read its file.

    Raises:
        IntegrityError: its file is readable for others, and this user may not change that.
        MachineError: there is none.
    """
    path = token_path()
    if path is None:
        return os.environ[TOKEN].strip()
    try:
        keep_private(path)
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise MachineError(
            f"{path}: the cluster's token cannot be read ({error.strerror}); copy it from the cluster's head and "
            f"`chmod 600` it, or name its file in {TOKEN_PATH}"
        ) from None


def keep_private(path: Path) -> None:
    """Let nobody else read a token's file: Ray itself makes it readable for every user of the machine.

    Raises:
        IntegrityError: others can read it, and this user may not change that.
        OSError: it is not there.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return
    try:
        path.chmod(0o600)
    except OSError as error:
        raise IntegrityError(
            f"{path}: others on this machine can read the cluster's token (mode {mode:04o}), and this user cannot change "
            f"that ({error.strerror}); have its owner run `chmod 600 {path}`, or copy it to a file of yours and name that in "
            f"{TOKEN_PATH}"
        ) from None
