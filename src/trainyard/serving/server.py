"""One process that serves exported models: listens, drains when it is told to end, and takes new models without a pause."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.serving.application import build_application
from trainyard.serving.gate import Gate, digest
from trainyard.serving.measures import Measures
from trainyard.serving.options import Options
from trainyard.serving.patience import patient_protocol
from trainyard.serving.served import Served

SHORTEST_TOKEN = 16
"""Characters."""
BACKLOG = 2048
"""Connections that the system holds until they are taken."""
LAST_CALLERS_SECONDS = 0.3
"""For connections that were opened before the end to be taken, and for what they ask to arrive."""
SO_ATTACH_FILTER = 26
"""Of Linux (asm-generic/socket.h); Python has no name for it."""
NO_NEW_CALLERS = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""Berkeley Packet Filter: load the flags of the TCP header; where SYN is among them, take 0 bytes of the packet, else all."""
NOISY = ("python_multipart", "uvicorn.error")
"""Libraries that write a line for each bad request, with which anybody could fill the disk; the client is told all of it."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
Say = Callable[[str], None]


def tell(text: str) -> None:
    """Write one line and show it at once; a server goes on where nobody reads it any more, or its disk is full."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Or Python would complain of it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        pass


class Service:
    """Models, what works on them, and the ASGI application around them; it needs a running event loop to begin."""

    def __init__(
        self,
        models: Mapping[str, Served],
        options: Options,
        token: bytes | None = None,
        hosts: Collection[str] | None = None,
        say: Say = tell,
    ) -> None:
        """Keep what to serve; `token` and `hosts` as `Gate` takes them."""
        self.models, self.options, self.say = models, options, say
        self.measures = Measures()
        self.is_draining = False
        # One at a time: decoded images, and what a network holds, take memory.
        self.reader = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self.network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self.tasks: list[asyncio.Task[None]] = []
        for served in models.values():
            served.begin(options, self.network, self.measures)
        self.application = self._build()
        self.gate = Gate(
            lambda: self.application,
            options,
            token=token,
            hosts=hosts,
            refused=lambda field: self.measures.refused.labels(field).inc(),
            draining=lambda: self.is_draining,
        )

    def _build(self) -> FastAPI:
        return build_application(self.models, self.options, self.measures, self.reader, lambda: self.is_draining)

    async def __aenter__(self) -> Service:
        """Begin to answer."""
        self.tasks = [asyncio.create_task(served.batcher.work()) for served in self.models.values()]
        self.tasks.append(asyncio.create_task(self._look()))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for executor in (self.reader, self.network, self.loader):
            executor.shutdown(wait=False, cancel_futures=True)

    async def reload(self, force: bool = False) -> None:
        """Take models whose files changed; all of them where it is forced."""
        for served in self.models.values():
            before, problem = served.predictor.signature, served.problem
            if await served.reload(self.loader, force):
                now = served.predictor.signature
                self.say(f"{served.name}: {now.fingerprint[:12]} answers from now on, before it was {before.fingerprint[:12]}")
                # What may be asked stands in the schema.
                self.application = self._build()
            elif served.problem and served.problem != problem:
                self.say(f"{served.name}: {before.fingerprint[:12]} goes on answering: {served.problem}")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self.options.reload_seconds)
            await self.reload()


class _Server(uvicorn.Server):
    """uvicorn's, but that it takes requests for a moment after it was told to end, and then says that it ended well."""

    service: Service
    listener: socket.socket

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        jobs: set[asyncio.Task[None]] = set()

        def reload() -> None:
            job = asyncio.ensure_future(self.service.reload(force=True))
            jobs.add(job)
            job.add_done_callback(jobs.discard)

        async with self.service:
            loop.add_signal_handler(signal.SIGHUP, reload)
            await super()._serve(sockets)
        self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.is_draining:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        self.service.is_draining = True
        asyncio.get_event_loop().call_soon_threadsafe(self._drain, sig)

    def _drain(self, sig: int) -> None:
        wait = self.service.options.drain_seconds if sig == signal.SIGTERM else 0
        asyncio.get_running_loop().call_later(wait, self._take_last_callers)

    def _take_last_callers(self) -> None:
        take_no_new_callers(self.listener)
        asyncio.get_running_loop().call_later(LAST_CALLERS_SECONDS, setattr, self, "should_exit", True)


def serve(
    models: Mapping[str, Served],
    options: Options,
    *,
    host: str,
    port: int,
    token: str | None,
    names: Collection[str] = (),
    say: Say = tell,
) -> None:
    """Serve until SIGTERM or Ctrl-C, and return once everything that was asked is answered.

    Raises:
        MachineError: the port is taken.
    """
    sock = listen(host, port)
    here = sock.getsockname()[1]
    kept = None if token is None else digest(token)
    service = Service(models, options, kept, accepted_names(host, names, token), say)
    config = uvicorn.Config(
        service.gate,
        # Not uvloop where it happens to be installed: deadlines and limits are tested with this one.
        loop="asyncio",
        http=patient_protocol(options),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, round(options.idle_seconds)),
        timeout_graceful_shutdown=round(options.answer_seconds) + 5,
    )
    quiet_libraries()
    server = _Server(config)
    server.service, server.listener = service, sock
    shown = f"[{host}]" if ":" in host else host
    say(f"{', '.join(models)}: http://{shown}:{here} (schema at /openapi.json; Ctrl-C ends it)")
    with contextlib.closing(sock):
        server.run([sock])
    if server.force_exit:
        say("ended at once, because it was told so twice; what was not answered by then is lost")
    else:
        say("ended, with everything answered that was asked")


def accepted_names(host: str, names: Collection[str], token: str | None) -> set[str] | None:
    """Return the names by which browsers may call a server; None, any, where they need its token and no name was given."""
    return {*LOCAL_NAMES, host.lower(), *(name.lower() for name in names)} if token is None or names else None


def quiet_libraries() -> None:
    """Have libraries write no line for each bad request."""
    for library in NOISY:
        logging.getLogger(library).setLevel(logging.ERROR)


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        InputError: it is not there, or too short to be one.
        IntegrityError: others can read it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no text"
        raise InputError(f"--token-file {path}: {said}; make one: (umask 077; openssl rand -hex 24 > {path})") from None
    if mode & 0o077:
        raise IntegrityError(f"--token-file {path}: others can read it (mode {mode:04o}); run `chmod 600 {path}`")
    if len(token) < SHORTEST_TOKEN or any(sign.isspace() for sign in token):
        raise InputError(
            f"--token-file {path}: holds no token of at least {SHORTEST_TOKEN} characters; "
            f"make one: (umask 077; openssl rand -hex 24 > {path})"
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is listened on; port 0: any that is free.

    Raises:
        MachineError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its name, because asyncio switches Nagle's algorithm off for those alone: an answer's body would wait 40 ms for the
    # client to acknowledge its head.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # From now on, whoever calls waits instead of being turned away.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise MachineError(f"{host}:{port}: cannot be listened on ({said}); choose another --port or --host") from None
    return sock


def take_no_new_callers(listener: socket.socket) -> None:
    """Have the system drop what asks for a new connection, while those that are being opened can still be taken.

    A listener that is closed has the system reset every connection that nobody has taken yet, and their clients cannot know
    that nobody read what they asked. Whoever is dropped calls again after a second, and is refused, which is no loss.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *step) for step in NO_NEW_CALLERS)
    kept = ctypes.create_string_buffer(code, len(code))
    with contextlib.suppress(OSError):
        # `struct sock_fprog`: how many steps, and where they are.
        program = struct.pack("@HP", len(NO_NEW_CALLERS), ctypes.addressof(kept))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
