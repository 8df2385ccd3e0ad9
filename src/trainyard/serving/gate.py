"""What stands before the application: who may ask, and how much; nothing of a request is read by it before it is whole.

A slow client thus holds nothing but its connection, and an application never waits for one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from trainyard.serving.options import Options

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
LINGER_SECONDS = 2.0
"""For what is left of a refused request to arrive."""
OPEN = ("/health", "/ready")
"""Paths that need no token: whoever looks after the process has none, and they say nothing about it."""


class Refused(Exception):
    """A request that the application does not see."""

    def __init__(self, status: int, field: str, found: str, expected: str, **headers: str) -> None:
        super().__init__(found)
        self.status, self.headers = status, headers
        self.body = {"error": {"rule": "refused", "field": field, "found": found, "expected": expected}}


class Gate:
    """An ASGI application around another one."""

    def __init__(
        self,
        application: Callable[[], Application],
        options: Options,
        *,
        token: bytes | None,
        hosts: Collection[str] | None,
        refused: Callable[[str], None],
        draining: Callable[[], bool],
    ) -> None:
        """Keep what to ask.

        Args:
            application: returns the one that answers now.
            options: limits.
            token: `digest` of the one that requests must bring; None: they need none.
            hosts: names by which browsers may call this server; None: any.
            refused: is told the reason of each refusal.
            draining: whether the server is about to end, so that connections are not kept.
        """
        self.application, self.options, self.refused, self.draining = application, options, refused, draining
        self.token, self.hosts = token, hosts
        self.held = 0
        """Bytes of requests that are not answered yet."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.application()(scope, receive, send)
            return
        room = _Room(self)
        try:
            headers = _headers(scope)
            # Whoever waits for a word before sending the body will not send it.
            room.unread = "expect" not in headers and ("transfer-encoding" in headers or "content-length" in headers)
            self._admit(scope, headers)
            body = await self._read(receive, headers, room)
            await self._answer(scope, body, receive, send)
        except Refused as refusal:
            self.refused(refusal.body["error"]["field"])
            if room.unread and refusal.status != 408:
                await _discard(receive, self.options.body_bytes)
            await _reply(send, refusal)
        finally:
            room.leave()

    def _admit(self, scope: Message, headers: dict[str, str]) -> None:
        """Look at the head alone."""
        host = _host(headers.get("host", ""))
        # Without one it is no browser that asks.
        if self.hosts is not None and host and host not in self.hosts:
            raise Refused(421, "host", "another server's name", "call this server by the address that it listens on")
        origin = headers.get("origin", "")
        if origin and _host(origin.partition("://")[2]) != host:
            raise Refused(403, "origin", "a page of another server", "ask from a program, or from a page of this server")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self.token is not None and path not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(digest(given.strip()), self.token):
                found = "another token" if given else "no token"
                challenge = {"www-authenticate": 'Bearer realm="trainyard"'}
                raise Refused(401, "authorization", found, "send the header Authorization: Bearer TOKEN", **challenge)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "content-encoding", "a compressed body", "send it as it is", **{"accept-encoding": "identity"})

    async def _read(self, receive: Receive, headers: dict[str, str], room: _Room) -> bytes:
        """Return the whole body."""
        body = bytearray()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return b""
        room.need(int(headers.get("content-length", "0")))
        try:
            async with asyncio.timeout(self.options.body_seconds):
                more = True
                while more:
                    message = await receive()
                    room.unread = room.unread and message.get("more_body", False)
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "body", "only a part of it", "send the whole")
                    body += message.get("body", b"")
                    room.need(len(body))
                    more = message.get("more_body", False)
        except TimeoutError:
            found = f"{len(body):,} bytes in {self.options.body_seconds:g} s"
            raise Refused(408, "body", found, "send it faster, or less at once") from None
        return bytes(body)

    async def _answer(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Have the application answer; stop it where the client is gone."""
        coming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        leaving = asyncio.ensure_future(_gone(receive))

        async def whole() -> Message:
            if coming:
                return coming.pop()
            await leaving
            return {"type": "http.disconnect"}

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start" and self.draining():
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        answering = asyncio.ensure_future(self.application()(scope, whole, last))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                with suppress(asyncio.CancelledError):
                    await answering
                return
            await answering
        finally:
            leaving.cancel()
            answering.cancel()


class _Room:
    """How many of the bytes that a gate may hold one request takes."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.taken = gate, 0
        self.unread = False
        """Whether a part of the body is still to come."""

    def need(self, size: int) -> None:
        """Take what is still needed for so many bytes.

        Raises:
            Refused: they are too many, or too many together with those of other requests.
        """
        options = self.gate.options
        if size > options.body_bytes:
            raise Refused(413, "body", f"more than {options.body_bytes:,} bytes", "send less at once")
        more = max(0, size - self.taken)
        if self.gate.held + more > options.held_bytes:
            raise Refused(503, "body", "no room for it now", "send it again later", **{"retry-after": "1"})
        self.gate.held, self.taken = self.gate.held + more, self.taken + more

    def leave(self) -> None:
        """Give it back."""
        self.gate.held, self.taken = self.gate.held - self.taken, 0


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _discard(receive: Receive, most: int) -> None:
    """Read a little of what still comes: who is hung up on while sending may never see the reply."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


async def _reply(send: Send, refusal: Refused) -> None:
    content = json.dumps(refusal.body).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        # What is left of the body is not read.
        "connection": "close",
        **refusal.headers,
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def _headers(scope: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _host(text: str) -> str:
    """Return the name in `name:port`, in small letters."""
    try:
        return (urlsplit(f"//{text}").hostname or "").lower()
    except ValueError:
        return ""


def digest(token: str) -> bytes:
    """Return what a gate keeps of a token."""
    # Compared as hashes, tokens of any length take as long.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
