"""How long a request takes: of one client, of many at once, and beside clients that never mean to end.

    python -m benchmarks.rest models/cnn --image seven.png
    trainyard serve cnn --address local & python -m benchmarks.rest models/cnn --image seven.png --port 8000

Serves the model in a process of its own, or asks a server that is there; the clients are in this one, on connections that are
open already. Prints p50, p95 and p99 in milliseconds: one client that asks again when it has its answer; 200 requests sent in
one moment on as many connections; 200 that 8 clients ask one after the other; and one client beside 500 connections that each
sent half a request.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np
from benchmarks.fuzz_rest import serving

AT_ONCE = 200
HALF_SENT = 500


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def ask(self, request: bytes) -> float:
        """Send a request; return the seconds until its answer was there."""
        began = time.perf_counter()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        took = time.perf_counter() - began
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"no answer: {head[:80]!r} {body[:200]!r}")
        return took


def told(name: str, seconds: list[float]) -> None:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    print(f"{name:<60} {p50:8.2f} {p95:8.2f} {p99:8.2f}", flush=True)


async def measure(port: int, request: bytes, repeats: int) -> None:
    one = await Client(port).open()
    for _ in range(50):
        await one.ask(request)
    print(f"{'milliseconds':<60} {'p50':>8} {'p95':>8} {'p99':>8}")
    told("one client", [await one.ask(request) for _ in range(repeats)])
    crowd = [await Client(port).open() for _ in range(AT_ONCE)]
    told(f"{AT_ONCE} requests in one moment", list(await asyncio.gather(*(client.ask(request) for client in crowd))))

    async def several(client: Client) -> list[float]:
        return [await client.ask(request) for _ in range(AT_ONCE // 8)]

    found = await asyncio.gather(*(several(client) for client in crowd[:8]))
    told(f"{AT_ONCE} requests of 8 clients", [took for part in found for took in part])
    half = [await Client(port).open() for _ in range(HALF_SENT)]
    for client in half:
        client.writer.write(request[:60])
    told(f"one client beside {HALF_SENT} half requests", [await one.ask(request) for _ in range(repeats)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an exported model for images")
    parser.add_argument("--image", type=Path, required=True, help="what is asked about")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--port", type=int, help="where the model is served already, on this machine")
    arguments = parser.parse_args()
    head = b'--x\r\ncontent-disposition: form-data; name="images"; filename="x"\r\n\r\n'
    body = head + arguments.image.read_bytes() + b"\r\n--x--\r\n"
    request = (
        f"POST /models/{arguments.model.name}/predict HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    if arguments.port is not None:
        asyncio.run(measure(arguments.port, request, arguments.repeats))
        return
    with serving([arguments.model]) as (url, _):
        asyncio.run(measure(int(url.rpartition(":")[2]), request, arguments.repeats))


if __name__ == "__main__":
    main()
