"""Requests that nobody meant, thousands of them: no server error may come back, and memory must stay where it was.

    python -m benchmarks.fuzz_rest models/cnn models/unet models/lstm --requests 10000

Serves the models in a process of its own. A share of the requests is made by schemathesis from the server's own schema, good
and bad ones; the rest are good requests with bytes changed, cut and doubled, values of JSON replaced by odd ones, and heads
that say something else. Prints how many ended with which status, and the memory of the server as it went; exits with 1 where
a server error came back.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from PIL import Image

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    10**400,
    "",
    " ",
    "\0",
    "\u202e\u200b",
    "x" * 200_000,
    "A" * 4001,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"images": 1, "texts": 2, "series": 3},
    ["é" * 10],
)
CONTENT_TYPES = (
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/plain",
    "image/png",
    "",
    "a/b;c",
)
HEADS: tuple[dict[str, str], ...] = (
    {},
    {},
    {},
    {"content-encoding": "gzip"},
    {"expect": "100-continue"},
    {"accept": "image/png"},
    {"origin": "null"},
    {"x-long": "y" * 20_000},
    {"range": "bytes=0-1"},
)
SHARE_GENERATED = 0.2
"""Of all requests; schemathesis takes far longer to make one than a server to answer it."""


@dataclass
class Found:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, status: int, what: str, reply: bytes) -> None:
        self.statuses[status] += 1
        if status >= 500:
            self.failures.append(f"{status}: {what[:300]} -> {reply[:300]!r}")


def fuzz(url: str, *, generated: int, mutated: int, seed: int, watch: Callable[[int], None] | None = None) -> Found:
    """Send requests to a server, and return what came back.

    Args:
        url: of the server.
        generated: how many are made from the schema.
        mutated: how many are changed good ones.
        seed: of all of them.
        watch: is told how many were sent.
    """
    found = Found()
    watch = watch or (lambda sent: None)
    _generated(url, generated, seed, found, watch)
    rng = random.Random(seed)
    with requests.Session() as session:
        session.trust_env = False
        models = session.get(f"{url}/models", timeout=60).json()["models"]
        for _ in range(mutated):
            _send(session, url, *_mutated(rng, rng.choice(models)), found)
            watch(found.statuses.total())
    return found


def _send(session: requests.Session, url: str, path: str, body: bytes, headers: dict[str, str], found: Found) -> None:
    try:
        reply = session.post(url + path, data=body, headers=headers, timeout=120)
    except requests.ConnectionError:
        # It may hang up on a request that it refuses before all of it came; it must be there for the next one.
        found.statuses[0] += 1
        session.get(f"{url}/ready", timeout=60).raise_for_status()
        return
    found.add(reply.status_code, f"{path} {headers} {body[:200]!r}", reply.content)


def _mutated(rng: random.Random, model: dict[str, Any]) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers of a request that was good before something happened to it."""
    path = f"/models/{model['model']}/predict"
    document = _document(rng, model)
    headers = {"content-type": "application/json", **rng.choice(HEADS)}
    form = "images" in document and rng.random() < 0.5
    if form:
        files = [base64.b64decode(text) for text in document["images"]]
        body = _form([_changed(rng, content) if rng.random() < 0.5 else content for content in files])
        headers["content-type"] = "multipart/form-data; boundary=frontier"
    else:
        if rng.random() < 0.6:
            document = _with_odd_value(rng, document)
        body = json.dumps(document).encode()
    if rng.random() < 0.4:
        body = _changed(rng, body)
    if rng.random() < 0.1:
        headers["content-type"] = rng.choice(CONTENT_TYPES)
    return path, body, headers


def _document(rng: random.Random, model: dict[str, Any]) -> dict[str, Any]:
    """Return a good request."""
    count = rng.randint(1, 3)
    if "image" in model:
        return {"images": [base64.b64encode(_image(rng)).decode() for _ in range(count)]}
    if "text" in model:
        return {
            "texts": [
                " ".join(rng.choices(["a", "fine", "day", "naïve", "坏", "🙂"], k=rng.randint(1, 40))) for _ in range(count)
            ]
        }
    about = model["series"]
    rows = about["context_length"] + rng.randint(0, 5)
    return {"series": [[{name: rng.gauss(0, 100) for name in about["columns"]} for _ in range(rows)] for _ in range(count)]}


def _image(rng: random.Random) -> bytes:
    height, width = rng.randint(1, 60), rng.randint(1, 60)
    pixels = np.frombuffer(rng.randbytes(height * width * 3), dtype=np.uint8).reshape(height, width, 3)
    image = Image.fromarray(pixels).convert(rng.choice(["RGB", "L", "RGBA", "P", "1", "LA"]))
    buffer = io.BytesIO()
    image.save(
        buffer, rng.choice(["PNG", "TIFF", "WEBP"]) if image.mode in ("RGBA", "LA") else rng.choice(["PNG", "GIF", "TIFF"])
    )
    return buffer.getvalue()


def _form(files: list[bytes]) -> bytes:
    head = b'--frontier\r\ncontent-disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return b"".join(head + content + b"\r\n" for content in files) + b"--frontier--\r\n"


def _changed(rng: random.Random, content: bytes) -> bytes:
    """Return bytes of which some were changed, cut off, taken out or doubled."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.choice([1, 1, 4, 50]))
        match rng.randint(0, 4):
            case 0:
                data[start:end] = rng.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end] * rng.randint(1, 3)
            case 3:
                data[start:start] = rng.choice([b"\0", b"\xff\xfe", b"\r\n--frontier\r\n", b'"', b"[" * 2000, b"\\ud800"])
            case 4:
                del data[start:]
    return bytes(data)


def _with_odd_value(rng: random.Random, document: Any) -> Any:
    """Return a document in which one value, or one key, is another."""
    if not isinstance(document, dict | list) or not document or rng.random() < 0.2:
        return rng.choice(ODD)
    if isinstance(document, dict):
        key = rng.choice(list(document))
        if rng.random() < 0.1:
            return {**document, rng.choice(["", "x" * 999, "\n", key.upper()]): rng.choice(ODD)}
        return {**document, key: _with_odd_value(rng, document[key])}
    place = rng.randrange(len(document))
    return [*document[:place], _with_odd_value(rng, document[place]), *document[place + 1 :]]


def _generated(url: str, count: int, seed: int, found: Found, watch: Callable[[int], None]) -> None:
    """Send what schemathesis makes of the server's own schema, good and bad."""
    import hypothesis
    import schemathesis
    from hypothesis import strategies

    images = strategies.integers(0, 2**32).map(lambda number: _image(random.Random(number)))
    schemathesis.openapi.format("binary", strategies.one_of(images, strategies.binary(max_size=200)))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [operation for result in schema.get_all_operations() if (operation := result.ok()).method == "post"]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    if not count:
        return
    each = max(1, count // (len(modes) * len(operations)))
    for number, (operation, mode) in enumerate((operation, mode) for operation in operations for mode in modes):

        def send(case: Any) -> None:
            reply = case.call(timeout=120)
            found.add(reply.status_code, f"{case.operation.label} {str(case.body)[:200]}", reply.content)
            watch(found.statuses.total())

        settings = hypothesis.settings(
            max_examples=each,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        cases = operation.as_strategy(generation_mode=mode)
        hypothesis.seed(seed + number)(settings(hypothesis.given(case=cases)(send)))()


@contextlib.contextmanager
def serving(models: list[Path]) -> Iterator[tuple[str, psutil.Process]]:
    """Serve models in a process of its own: its address, and itself."""
    command = [sys.executable, "-m", "trainyard.cli", "serve", *map(str, models), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        address = re.search(r"http://[\d.:]+", line)
        if address is None:
            raise SystemExit(f"the server did not begin: {line}")
        try:
            yield address[0], psutil.Process(process.pid)
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders of exported models")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory: list[tuple[int, int]] = []
    began = time.monotonic()
    with serving(arguments.models) as (url, process):

        def watch(sent: int) -> None:
            if not memory or sent >= memory[-1][0] + 200:
                memory.append((sent, process.memory_info().rss))

        generated = round(arguments.requests * SHARE_GENERATED)
        found = fuzz(url, generated=generated, mutated=arguments.requests - generated, seed=arguments.seed, watch=watch)
        memory.append((found.statuses.total(), process.memory_info().rss))
    print(f"{found.statuses.total():,} requests in {time.monotonic() - began:,.0f} s")
    for status, count in sorted(found.statuses.items()):
        print(f"  {status or 'hung up on':>10}: {count:,}")
    for share in (0, 0.1, 0.25, 0.5, 0.75, 1):
        sent, held = memory[round(share * (len(memory) - 1))]
        print(f"  after {sent:>6,} requests: {held / 2**20:,.0f} MiB")
    print(f"  at most {max(held for _, held in memory) / 2**20:,.0f} MiB")
    for failure in found.failures[:20]:
        print(failure)
    sys.exit(bool(found.failures))


if __name__ == "__main__":
    main()
