"""What is answered over HTTP is what the predictor answers; what cannot be answered is said, with the name of the field."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.servers import Server
from tests.serving.test_predictor import raws
from trainyard.serving.answers import Forecast, Label, Mask
from trainyard.serving.predictor import Predictor
from trainyard.serving.server import listen

OPTIONS = {"inputs_at_once": 8, "body_bytes": 2**20, "head_seconds": 1.0}
LIMITS = {"characters": 1000, "pixels": 10_000, "rows": 60}
ROWS = [{"sun": 0.1, "load": 5000.0, "wind": 4.0}] * 24


@pytest.fixture(scope="module")
def server(models: dict[str, Path]) -> Iterator[Server]:
    with Server(
        models, {"inputs_at_once": 8, "body_bytes": 2**20}, {"characters": 1000, "pixels": 10_000, "rows": 60}
    ) as server:
        yield server


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_as_files_and_as_base64_get_the_answers_of_the_predictor(server: Server, models: dict[str, Path]) -> None:
    files = [raw for raw in raws(models["photos"])[1] if isinstance(raw, bytes)][:5]
    answers = Predictor.load(models["photos"], threads=1).predict(files)
    by_form = server.images("photos", files)
    by_text = server.post("photos", {"images": [base64.b64encode(content).decode() for content in files]})
    by_address = server.post("photos", {"images": ["data:image/png;base64," + base64.b64encode(files[0]).decode()]})
    assert by_form.status_code == by_text.status_code == by_address.status_code == 200
    for reply in (by_form.json(), by_text.json()):
        assert (reply["model"], reply["fingerprint"], len(reply["predictions"])) == ("photos", "fingerprint0", 5)
        for found, answer in zip(reply["predictions"], answers, strict=True):
            assert isinstance(answer, Label)
            assert (found["label"], found["class"]) == (answer.label, answer.number)
            assert np.allclose(found["probabilities"], answer.probabilities, atol=1e-5)


def test_a_mask_comes_as_an_image_of_the_size_that_was_sent(server: Server, models: dict[str, Path]) -> None:
    content = png(np.random.default_rng(0).integers(0, 256, (33, 71), dtype=np.uint8))
    [answer] = Predictor.load(models["cells"], threads=1).predict([content])
    assert isinstance(answer, Mask)
    [found] = server.images("cells", [content]).json()["predictions"]
    assert (found["height"], found["width"]) == (33, 71)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
    assert np.array_equal(shown, answer.ids)
    alone = server.images("cells", [content], headers={"accept": "image/png"})
    assert alone.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(alone.content))), answer.ids)


def test_texts_and_series_get_the_answers_of_the_predictor(server: Server, models: dict[str, Path]) -> None:
    texts = ["a fine day", {"title": "cold", "body": "and LATE"}, "坏 naïve"]
    found = server.post("reviews", {"texts": texts}).json()["predictions"]
    for one, answer in zip(found, Predictor.load(models["reviews"], threads=1).predict(texts), strict=True):
        assert isinstance(answer, Label) and np.allclose(one["probabilities"], answer.probabilities, atol=1e-5)
    [one] = server.post("load", {"series": [ROWS]}).json()["predictions"]
    [answer] = Predictor.load(models["load"], threads=1).predict([ROWS])
    assert isinstance(answer, Forecast)
    assert np.allclose([[step["sun"], step["load"]] for step in one["forecast"]], answer.values, rtol=1e-5)


def test_a_text_that_looks_like_keys_has_none(server: Server) -> None:
    text = '{"title": 1, "title": 2}'
    reply = server.post("reviews", json={"texts": [{"title": text, "body": text}]})
    assert reply.status_code == 200, reply.text


def test_two_hundred_requests_at_once_each_get_their_own_answer(server: Server, models: dict[str, Path]) -> None:
    rng = np.random.default_rng(4)
    images = [png(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)) for _ in range(200)]
    expected = Predictor.load(models["photos"], threads=1).predict(images)
    with ThreadPoolExecutor(50) as clients:
        replies = list(clients.map(lambda content: server.images("photos", [content]), images))
    assert {reply.status_code for reply in replies} == {200}
    for reply, answer in zip(replies, expected, strict=True):
        assert isinstance(answer, Label)
        assert np.allclose(reply.json()["predictions"][0]["probabilities"], answer.probabilities, atol=1e-5)
    assert len({tuple(reply.json()["predictions"][0]["probabilities"]) for reply in replies}) == 200


def test_the_schema_says_what_each_model_takes_and_gives(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    asked = paths["/models/load/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    rows = asked["properties"]["series"]["items"]
    assert (rows["minItems"], rows["maxItems"]) == (24, 60) and rows["items"]["required"] == ["sun", "load", "wind"]
    answered = paths["/models/photos/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answered["properties"]["predictions"]["items"]["properties"]["label"] == {"enum": ["day", "night"]}
    assert set(paths["/models/photos/predict"]["post"]["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert [model["model"] for model in server.get("/models").json()["models"]] == ["photos", "cells", "reviews", "load"]
    assert server.get("/models/load").json()["series"]["context_length"] == 24


def bomb() -> bytes:
    """Return a PNG of a few kilobytes whose header says 20,000 x 20,000 pixels of one bit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(2501 * 20_000), 9)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\ncontent-disposition: form-data; name="images"; filename="a"\r\n\r\n'
NO_FILE = b'--x\r\ncontent-disposition: form-data; name="images"\r\n\r\nx\r\n--x--'
BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("reviews", {"data": b"", "headers": JSON}, 400, "body"),
    ("reviews", {"data": b"{", "headers": JSON}, 400, "body"),
    ("reviews", {"data": b"\xff\xfe", "headers": JSON}, 400, "body"),
    ("reviews", {"data": b"[" * 500_000, "headers": JSON}, 400, "body"),
    ("reviews", {"data": b'{"texts": ["\\ud800"]}', "headers": JSON}, 400, "body"),
    ("load", {"data": b'{"series": [[NaN]]}', "headers": JSON}, 400, "body"),
    ("reviews", {"json": None, "data": b"null", "headers": JSON}, 422, "body"),
    ("reviews", {"json": ["x"]}, 422, "body"),
    ("reviews", {"json": {}}, 422, "texts"),
    ("reviews", {"json": {"texts": []}}, 422, "texts"),
    ("reviews", {"json": {"texts": "x"}}, 422, "texts"),
    ("reviews", {"json": {"texts": ["x", 1]}}, 422, "texts[1]"),
    ("reviews", {"json": {"texts": ["x", " "]}}, 422, "texts[1]"),
    ("reviews", {"json": {"texts": [{"title": "x"}]}}, 422, "texts[0].body"),
    ("reviews", {"json": {"texts": ["x"], "text": ["x"]}}, 422, "text"),
    ("reviews", {"json": {"texts": ["x"], "\u202e\n": 1}}, 422, "\\u202e\\n"),
    ("reviews", {"data": b'{"texts": ["a"], "texts": ["b"]}', "headers": JSON}, 422, "texts"),
    ("reviews", {"data": b'{"texts": [{"title": "a", "body": "b", "t\\u0069tle": "c"}]}', "headers": JSON}, 422, "title"),
    ("load", {"data": b'{"series": [[{"sun": 1, "sun" : 1}]]}', "headers": JSON}, 422, "sun"),
    ("reviews", {"data": {"texts": "x"}}, 415, "body"),
    ("reviews", {"data": b"x"}, 415, "body"),
    ("reviews", {"files": {"texts": b"x"}}, 415, "body"),
    ("load", {"json": {"series": [ROWS[:-1]]}}, 422, "series[0]"),
    ("load", {"json": {"series": [ROWS, [*ROWS[:-1], {"sun": 1, "load": 2}]]}}, 422, "series[1][23].wind"),
    ("load", {"json": {"series": [[*ROWS[:-1], {**ROWS[0], "sun": "0.1"}]]}}, 422, "series[0][23].sun"),
    ("load", {"json": {"series": [[*ROWS[:-1], {**ROWS[0], "sun": None}]]}}, 422, "series[0][23].sun"),
    ("load", {"json": {"series": [[*ROWS[:-1], {**ROWS[0], "sun": 10**400}]]}}, 422, "series[0][23].sun"),
    ("load", {"json": {"series": [[[1, 2, 3]] * 23 + [[1, 2]]]}}, 422, "series[0][23]"),
    ("load", {"json": {"series": [ROWS[0]]}}, 422, "series[0]"),
    ("photos", {"json": {"images": ["%%%"]}}, 422, "images[0]"),
    ("photos", {"json": {"images": ["ä"]}}, 422, "images[0]"),
    ("photos", {"json": {"images": [3]}}, 422, "images[0]"),
    ("photos", {"json": {"images": [""]}}, 422, "images[0]"),
    ("photos", {"json": {"images": [base64.b64encode(b"GIF89a").decode()]}}, 422, "images[0]"),
    ("photos", {"files": [("images", ("a", b"%PDF"))]}, 422, "images[0]"),
    ("photos", {"files": [("image", ("a", b"x"))]}, 422, "image"),
    ("photos", {"data": PART + b"x", "headers": FORM}, 400, "body"),
    ("photos", {"data": b"nothing of the kind", "headers": FORM}, 400, "body"),
    ("photos", {"data": b"", "headers": FORM}, 400, "body"),
    ("photos", {"data": PART, "headers": {"content-type": "multipart/form-data"}}, 400, "body"),
    (
        "photos",
        {"data": NO_FILE, "headers": FORM},
        422,
        "images[0]",
    ),
    ("photos", {"data": b"--x\r\n" + b"a" * 9000 + b": b\r\n\r\nx\r\n--x--", "headers": FORM}, 400, "body"),
    ("photos", {"data": zlib.compress(bytes(10**7)), "headers": {**JSON, "content-encoding": "gzip"}}, 415, "content-encoding"),
]
BEYOND: list[tuple[str, dict[str, Any], int, str]] = [
    ("reviews", {"json": {"texts": ["x"] * 9}}, 422, "texts"),
    ("reviews", {"json": {"texts": ["x" * 1001]}}, 422, "texts[0]"),
    ("load", {"json": {"series": [ROWS * 3]}}, 422, "series[0]"),
    ("photos", {"files": [("images", ("a", b"x"))] * 9}, 422, "images"),
    ("photos", {"data": bytes(2**20 + 1), "headers": JSON}, 413, "body"),
]
"""What is too much for this server, and not for one with the limits that it has by itself."""
ALL = [*BAD, *BEYOND]


@pytest.mark.parametrize(("model", "options", "status", "field"), ALL, ids=[f"{n}-{case[3]}" for n, case in enumerate(ALL)])
def test_what_is_wrong_is_said_with_the_name_of_the_field(
    server: Server, model: str, options: dict[str, Any], status: int, field: str
) -> None:
    reply = server.post(model, **options)
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field), reply.text
    assert reply.json()["error"]["found"] and reply.json()["error"]["expected"]


def test_whether_it_works_and_is_ready_may_be_asked_without_a_body_in_the_answer(server: Server) -> None:
    for path in ("/health", "/ready"):
        reply = server.session.head(f"{server.url}{path}")
        assert (reply.status_code, reply.text) == (200, "")


def test_paths_and_methods_that_are_not_there_are_said(server: Server) -> None:
    for path in (
        "/",
        "/models/pets",
        "/models/../../etc/passwd",
        "/models/%2e%2e/x",
        "/models/photos/predict/",
        "/%00",
        "/docs",
    ):
        reply = server.get(path)
        assert (reply.status_code, reply.json()["error"]["field"]) == (404, "path"), path
    reply = server.get("/models/photos/predict")
    assert (reply.status_code, reply.json()["error"]["field"]) == (405, "method")


def test_images_and_bodies_made_to_fill_the_memory_are_refused_in_little_of_it(server: Server) -> None:
    before = server.memory()
    reply = server.images("photos", [bomb()])
    assert reply.status_code == 422 and "400000000 pixels" in reply.json()["error"]["found"]
    head = b"POST /models/photos/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    assert server.raw(head + b"content-length: 1073741824\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    endless = head + b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + bytes(65536) + b"\r\n") * 400
    # It hangs up at once; what it said may be lost with what was still on its way.
    assert server.raw(endless)[:13] in (b"HTTP/1.1 413 ", b"")
    assert server.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000).startswith((b"HTTP/1.1 400 ", b""))
    assert server.memory() - before < 100 * 2**20
    assert server.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nconnection: close\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"POST /models/photos/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /models/photos/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"POST /models/photos/predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /ready HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n",
    ],
)
def test_what_is_no_request_of_http_does_no_harm(server: Server, content: bytes) -> None:
    reply = server.raw(content)
    assert not reply or reply.split()[1][:1] in (b"2", b"4"), reply
    assert server.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"host": "evil.example"}, 421, "host"),
        ({"host": "evil.example:80"}, 421, "host"),
        ({"origin": "http://evil.example"}, 403, "origin"),
        ({"origin": "null"}, 403, "origin"),
    ],
)
def test_pages_of_others_cannot_ask_through_a_browser(server: Server, headers: dict[str, str], status: int, field: str) -> None:
    reply = server.post("reviews", {"texts": ["x"]}, headers=headers)
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field)
    assert "access-control-allow-origin" not in {name.lower() for name in reply.headers}
    assert server.post("reviews", {"texts": ["x"]}, headers={"origin": server.url}).status_code == 200


def test_what_was_answered_and_refused_is_counted(server: Server) -> None:
    before = server.metric("trainyard_inputs_total"), server.metric("trainyard_refused_total")
    server.post("reviews", {"texts": ["x", "y"]})
    server.post("reviews", {"texts": ["x"]}, headers={"host": "evil.example"})
    assert server.metric("trainyard_inputs_total") == before[0] + 2
    assert server.metric("trainyard_refused_total") == before[1] + 1
    text = server.get("/metrics").text
    assert 'trainyard_model_info{fingerprint="fingerprint0"' in text and json.dumps("photos") in text


def test_what_is_sent_in_two_parts_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    # Or an answer, which is a head and a body, takes 40 ms on Linux.
    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken = writer.get_extra_info("socket")
            found.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        sock = listen("127.0.0.1", 0)
        async with await asyncio.start_server(take, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname())
            writer.close()
            return await found

    assert asyncio.run(accepted()) == 1
