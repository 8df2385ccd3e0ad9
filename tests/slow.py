"""A slow link on loopback: what a server says comes through only as far as a test allows."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class SlowLink:
    """`with SlowLink("127.0.0.1:9000") as link: link.url`, and `link.allow(1000)` lets a thousand bytes more through."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self.server = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self._allowed = 0
        self._changed = threading.Condition()
        self._over = False
        self._open: list[socket.socket] = [self.listener]

    def __enter__(self) -> SlowLink:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def allow(self, size: int) -> None:
        """Let so many bytes more of what the server says come through."""
        with self._changed:
            self._allowed += size
            self._changed.notify_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.server)
                self._open += [client, server]
                threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while content := client.recv(2**16):
                server.sendall(content)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while content := server.recv(2**16):
                while content:
                    part = content[: self._take(len(content))]
                    client.sendall(part)
                    content = content[len(part) :]
            client.shutdown(socket.SHUT_WR)

    def _take(self, wanted: int) -> int:
        with self._changed:
            while not self._allowed and not self._over:
                self._changed.wait()
            if self._over:
                raise ConnectionAbortedError
            size = min(wanted, self._allowed)
            self._allowed -= size
            return size
