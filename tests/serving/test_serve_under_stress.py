"""A server that is ended, given new models, crowded, and kept waiting goes on answering whoever behaves."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.serving.made import make_model
from tests.serving.servers import Server, wait_until
from trainyard.errors import MachineError
from trainyard.serving.server import listen, take_no_new_callers

HEAD = b"POST /models/reviews/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@contextmanager
def asking(server: Server, clients: int = 4) -> Iterator[Counter[Any]]:
    """Ask all the time, each client on connections of its own; what came back is counted."""
    found: Counter[Any] = Counter()
    ending = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not ending.is_set():
                try:
                    reply = session.post(f"{server.url}/models/reviews/predict", json={"texts": ["a fine day"]}, timeout=60)
                    found[reply.status_code, reply.json().get("fingerprint", "")] += 1
                except requests.ConnectionError as error:
                    # Refused before anything was sent is no loss: nobody listens any more.
                    found["refused" if "refused" in str(error) else repr(error)] += 1
                    time.sleep(0.01)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model for reviews, trained again: other weights, another fingerprint."""
    return make_model(tmp_path_factory.mktemp("another"), "reviews", seed=1)


def test_a_new_model_takes_its_place_without_a_request_being_lost_and_a_damaged_one_does_not(
    models: dict[str, Path], another: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(models["reviews"], tmp_path / "reviews"))

    def put(content: bytes) -> None:
        (place / "new").write_bytes(content)
        os.replace(place / "new", place / "model.onnx")

    with Server({"reviews": place}, {"reload_seconds": 0.1}) as server, asking(server) as found:
        wait_until(lambda: found[200, "fingerprint0"] > 20)
        put((another / "model.onnx").read_bytes())
        assert server.line().startswith("reviews: fingerprint1 answers from now on, before it was fingerprint0")
        wait_until(lambda: found[200, "fingerprint1"] > 20)
        put((models["reviews"] / "model.onnx").read_bytes()[:5000])
        assert "reviews: fingerprint1 goes on answering:" in (said := server.line()) and "is not a whole ONNX file" in said
        put((models["photos"] / "model.onnx").read_bytes())
        assert "is for image_classification, start the server anew for it" in server.line()
        assert "is for image_classification" in server.get("/health").json()["problems"]["reviews"]
        (place / "model.onnx").unlink()
        before = found[200, "fingerprint1"]
        wait_until(lambda: found[200, "fingerprint1"] > before + 20)
        put((models["reviews"] / "model.onnx").read_bytes())
        assert "fingerprint0 answers from now on" in server.line()
        assert server.metric("trainyard_reloads_total") == 4
        assert "problems" not in server.get("/health").json()
        # The same file again, because somebody asks for it.
        server.process.send_signal(signal.SIGHUP)
        assert "fingerprint0 answers from now on" in server.line()
    assert set(found) == {(200, "fingerprint0"), (200, "fingerprint1")}


def test_whoever_is_told_to_end_answers_what_was_asked_and_says_so(models: dict[str, Path]) -> None:
    with Server({"reviews": models["reviews"]}, {"drain_seconds": 0.5}) as server, asking(server) as found:
        wait_until(lambda: found[200, "fingerprint0"] > 20)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/ready").status_code == 503)
        code, out, err = server.ended()
        assert (code, err) == (0, "") and "ended, with everything answered that was asked" in out
        wait_until(lambda: found["refused"] > 0)
    assert set(found) == {(200, "fingerprint0"), "refused"}


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is one of Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_of_those_who_call_at_the_end_the_earlier_are_heard_and_the_later_are_no_part_of_it(host: str) -> None:
    with ExitStack() as lines:
        try:
            listener = lines.enter_context(listen(host, 0))
        except MachineError:
            pytest.skip(f"{host} is no address of this machine")
        address = listener.getsockname()[:2]
        earlier = lines.enter_context(socket.create_connection(address))
        earlier.sendall(b"asked")
        take_no_new_callers(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.2)
        taken = lines.enter_context(listener.accept()[0])
        assert taken.recv(5) == b"asked"
        # What is sent afterwards over such a connection arrives, too.
        earlier.sendall(b"again")
        assert taken.recv(5) == b"again"


def test_whoever_is_told_twice_to_end_does_so_at_once_and_does_not_say_that_all_was_answered(models: dict[str, Path]) -> None:
    with Server({"reviews": models["reviews"]}, {"drain_seconds": 600.0}) as server:
        assert server.get("/ready").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/ready").status_code == 503)
        code, out, err = server.end()
        assert (code, err) == (0, "") and "ended at once" in out and "everything answered" not in out


def test_slow_clients_hold_nobody_up_and_are_hung_up_on(models: dict[str, Path]) -> None:
    options = {"head_seconds": 2.0, "body_seconds": 2.0, "connections": 260}
    with Server({"reviews": models["reviews"]}, options) as server, ExitStack() as lines:

        def line() -> socket.socket:
            return lines.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))

        slow_heads = [line() for _ in range(120)]
        slow_bodies = [line() for _ in range(120)]
        for one in slow_heads:
            one.sendall(b"POST /models/rev")
        for one in slow_bodies:
            one.sendall(HEAD + b'content-length: 1000\r\n\r\n{"texts": ')
        for _ in range(20):
            assert server.post("reviews", {"texts": ["x"]}).status_code == 200
        assert all(one.recv(100) == b"" for one in slow_heads)
        assert all(one.recv(100).startswith(b"HTTP/1.1 408 ") for one in slow_bodies)
        assert server.post("reviews", {"texts": ["x"]}).status_code == 200


def is_ready(server: Server) -> bool:
    """Whether a new connection is taken; one too many is hung up on before it has asked."""
    try:
        return server.get("/ready").status_code == 200
    except requests.ConnectionError:
        return False


def test_one_connection_too_many_is_told_to_come_again(models: dict[str, Path]) -> None:
    with Server({"reviews": models["reviews"]}, {"connections": 5}) as server, ExitStack() as lines:
        for _ in range(5):
            lines.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        wait_until(lambda: server.raw(b"").startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"))
        lines.close()
        wait_until(lambda: is_ready(server))


def large(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (700, 700), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def test_more_than_may_wait_is_refused_at_once_with_when_to_come_again(models: dict[str, Path]) -> None:
    options = {"waiting": 4, "held_bytes": 6 * 2**20, "body_bytes": 2**20}
    image = large(0)
    with Server({"cells": models["cells"]}, options) as server, ThreadPoolExecutor(40) as clients:
        replies = list(clients.map(lambda _: server.images("cells", [image]), range(80)))
        counts = Counter(reply.status_code for reply in replies)
        assert set(counts) <= {200, 429, 503} and counts[200] >= 4 and counts[429] + counts[503] > 0, counts
        assert {reply.headers["retry-after"] for reply in replies if reply.status_code != 200} == {"1"}
        assert server.images("cells", [image]).status_code == 200
        assert server.metric("trainyard_waiting_inputs") == 0


def test_an_answer_that_takes_too_long_is_given_up(models: dict[str, Path]) -> None:
    with Server({"cells": models["cells"]}, {"answer_seconds": 0.001}) as server:
        reply = server.images("cells", [large(0)])
        assert (reply.status_code, reply.json()["error"]["found"]) == (503, "no answer in time")
        assert reply.headers["retry-after"] == "1"


def test_clients_that_leave_are_forgotten(models: dict[str, Path]) -> None:
    with Server({"cells": models["cells"]}, {"batch_inputs": 1}) as server:
        body = b"--x\r\ncontent-disposition: form-data; name=images; filename=a\r\n\r\n" + large(0) + b"\r\n--x--"
        head = b"POST /models/cells/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as line:
                line.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: server.metric("trainyard_waiting_inputs") == 0)
        assert server.images("cells", [large(0)]).status_code == 200
        assert server.metric("trainyard_inputs_total") < 15


def test_whoever_has_no_token_learns_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f8Zk2-qLw9-xx1T-0000\n")
    (tmp_path / "token").chmod(0o600)
    with Server({"reviews": models["reviews"]}, token=tmp_path / "token") as server:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "Basic f8Zk2-qLw9-xx1T-0000"}):
            for path in ("/models", "/metrics", "/openapi.json", "/nothing", "/models/reviews"):
                reply = server.get(path, headers=headers)
                assert (reply.status_code, reply.headers["www-authenticate"]) == (401, 'Bearer realm="trainyard"')
                assert "reviews" not in reply.text
            assert server.post("reviews", {"texts": ["x"]}, headers=headers).status_code == 401
        assert server.get("/health").json() == {"status": "ok"} and server.get("/ready").status_code == 200
        good = {"authorization": "bearer f8Zk2-qLw9-xx1T-0000", "host": "any.example"}
        assert server.post("reviews", {"texts": ["x"]}, headers=good).status_code == 200


def test_a_server_whose_lines_nobody_reads_goes_on_taking_new_models(
    models: dict[str, Path], another: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(models["reviews"], tmp_path / "reviews"))
    with Server({"reviews": place}, {"reload_seconds": 0.1, "drain_seconds": 0.0}) as server:
        assert server.process.stdout is not None and server.process.stderr is not None
        server.process.stdout.close()
        for folder, fingerprint in ((another, "fingerprint1"), (models["reviews"], "fingerprint0"), (another, "fingerprint1")):
            shutil.copyfile(folder / "model.onnx", place / "new")
            os.replace(place / "new", place / "model.onnx")
            wait_until(lambda now=fingerprint: server.get("/models/reviews").json()["fingerprint"] == now)
        server.process.send_signal(signal.SIGTERM)
        assert (server.process.wait(120), server.process.stderr.read()) == (0, "")
