"""Which addresses a download may go to: public ones, and the one that the user's own mirror variable names.

A descriptor may come from anybody, and a server may send us anywhere: neither may make this machine ask its own services,
those of its network, or the metadata service of a cloud. A name is looked up and checked before anything is asked, and the
address that was really connected to is checked again before a byte is sent, because a name may change its address between.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from trainyard.data.problems import printable
from trainyard.errors import IntegrityError

NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that hold an IPv4 address in their last 32 bits (RFC 6052)."""
WAY_OUT = "set TRAINYARD_MIRROR to that server if you mean it"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def guarded_session(trusted: str | None) -> requests.Session:
    """Return a session that connects to public addresses only, and to `trusted`.

    Args:
        trusted: host:port of the user's own mirror.
    """

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _checked(super()._new_conn(), self.host, self.port, trusted)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _checked(super()._new_conn(), self.host, self.port, trusted)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    session = requests.Session()
    adapter = HTTPAdapter()
    # Proxies have pools of their own, which this leaves alone: a proxy often has an address of the user's own network.
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def check_url(url: str, trusted: str | None) -> None:
    """Refuse a URL that is not http or https, or that leads to an address that is not public.

    Raises:
        IntegrityError: naming the URL and its address.
        OSError: the name has no address.
    """
    parts = urlsplit(url)
    shown = shown_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise IntegrityError(f"{shown}: refused, because it is no http or https address; use one of those")
    if host_and_port(url) == trusted:
        return
    if get_environ_proxies(url):
        # The proxy looks names up, and this machine may be unable to.
        addresses = _literal(parts.hostname)
    else:
        found = socket.getaddrinfo(
            parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
        addresses = [_address(str(entry[4][0])) for entry in found]
    for address in addresses:
        if not is_public(address):
            raise IntegrityError(f"{shown}: refused, because {address} is not a public address; {WAY_OUT}")


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, whatever form it is written in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
        if int(address) >> 32 == 0:
            # ::a.b.c.d, which some systems still connect to a.b.c.d.
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def host_and_port(url: str) -> str:
    """Return `host:port` of a URL, the port of its scheme where it names none."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def shown_url(url: str) -> str:
    """Return a URL as a message may show it: without user and password, and without the query, which may hold a key."""
    parts = urlsplit(url)
    return printable(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl())


def _checked(connection: socket.socket, host: str, port: int, trusted: str | None) -> socket.socket:
    """Return the connection, or close it where it leads to an address that is not public."""
    address = _address(str(connection.getpeername()[0]))
    if f"{host.strip('[]')}:{port}" != trusted and not is_public(address):
        connection.close()
        raise IntegrityError(f"{host}: refused, because {address} is not a public address; {WAY_OUT}")
    return connection


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _literal(host: str) -> list[Any]:
    """Return the address that a host is written as, in any form that systems take, or nothing where it is a name."""
    try:
        return [_address(host)]
    except ValueError:
        pass
    try:
        return [ipaddress.IPv4Address(socket.inet_aton(host))]
    except OSError:
        return [ipaddress.IPv4Address("127.0.0.1")] if host.lower().rstrip(".").endswith("localhost") else []
