"""Connections of clients that take their time, or never mean to end: each has a deadline of its own.

uvicorn waits for the head of a request for as long as it takes, and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from trainyard.serving.options import Options

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\ntoo many connections\n"
)


class Patient(H11Protocol):
    """One connection with its deadlines."""

    limits: Options
    head: asyncio.TimerHandle | None = None
    reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        if len(self.connections) > self.limits.connections:
            self.transport.write(FULL)
            self.transport.close()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._arrived()
        elif self.head is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_reader(self.transport.get_write_buffer_size())

    def timeout_keep_alive_handler(self) -> None:
        # What is still to be read has a deadline of its own.
        if not self.transport.get_write_buffer_size():
            super().timeout_keep_alive_handler()

    def _expect_head(self) -> None:
        self.head = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def _arrived(self) -> None:
        if self.head is not None:
            self.head.cancel()
            self.head = None

    def _watch_reader(self, unread: int) -> None:
        if unread and self.reader is None:
            self.reader = self.loop.call_later(self.limits.idle_seconds, self._look_at_reader, unread)

    def _look_at_reader(self, before: int) -> None:
        self.reader = None
        unread = self.transport.get_write_buffer_size()
        if unread and unread >= before:
            self.transport.abort()
        else:
            self._watch_reader(unread)

    def _stop(self) -> None:
        self._arrived()
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None


def patient_protocol(options: Options) -> type[H11Protocol]:
    """Return uvicorn's protocol with deadlines for heads and for readers, and a limit of connections."""
    return type("Patient", (Patient,), {"limits": options})
