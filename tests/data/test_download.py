from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.web import Answer, Web, chunked, cut, drip, other, redirect, silence, status, without_ranges

from trainyard.data.descriptor import PublishedFile
from trainyard.data.download import Patience, download
from trainyard.errors import IntegrityError, ServiceError, TrainyardError

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = PublishedFile(
    name="data.bin",
    urls=("http://example.org/data.bin",),
    bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    md5=hashlib.md5(CONTENT).hexdigest(),
)
HASTY = Patience(connect_seconds=2, silence_seconds=0.2, slow_seconds=0.1, slowest=1e4, pauses=(0.01, 0.01))


def bring(web: Web, folder: Path, *, urls: list[str] | None = None, patience: Patience = HASTY) -> bytes:
    """Return what a download from the server leaves on the disk, where nothing else may be left."""
    target = folder / "data.bin"
    download(FILE, urls or [f"{web.url}/data.bin"], target, trusted=web.host, patience=patience)
    assert [path.name for path in folder.iterdir()] == ["data.bin"]
    return target.read_bytes()


def test_a_file_arrives_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    with Web({"/data.bin": CONTENT}) as web:
        assert bring(web, tmp_path) == CONTENT
        assert web.ranges() == [None]
        assert web.asked[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "plan",
    [
        [cut(100_000)],
        [cut(100_000), cut(1)],
        [status(500), status(503, Retry_After="0")],
        [status(429)],
        [silence],
        [drip],
        [chunked],
        [cut(100_000), without_ranges],
        [cut(100_000), status(416)],
        [redirect("/data.bin")],
    ],
)
def test_what_passes_is_waited_for(tmp_path: Path, plan: list[Answer]) -> None:
    with Web({"/data.bin": CONTENT}, list(plan)) as web:
        assert bring(web, tmp_path) == CONTENT


def test_a_cut_connection_continues_where_it_stopped(tmp_path: Path) -> None:
    with Web({"/data.bin": CONTENT}, [cut(100_000), cut(50_000)]) as web:
        assert bring(web, tmp_path) == CONTENT
        assert web.ranges() == [None, "bytes=100000-", "bytes=150000-"]
        assert [headers.get("if-range") for _, headers in web.asked] == [None, '"v1"', '"v1"']


def test_a_part_of_another_version_is_not_glued_to_this_one(tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(bytes(120_000))
    with Web({"/data.bin": CONTENT}) as web:
        assert bring(web, tmp_path) == CONTENT
        assert web.ranges() == ["bytes=120000-", None]


def test_a_part_of_which_only_the_name_is_to_be_changed_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    with Web() as web:
        assert bring(web, tmp_path) == CONTENT
        assert web.asked == []


def test_a_server_that_sends_another_part_than_asked_for_is_asked_for_all(tmp_path: Path) -> None:
    def shifted(handler: object, content: bytes) -> None:
        handler.head(206, Content_Length=10, Content_Range=f"bytes 5-14/{len(content)}")  # type: ignore[attr-defined]
        handler.wfile.write(content[5:15])  # type: ignore[attr-defined]

    with Web({"/data.bin": CONTENT}, [cut(1000), shifted]) as web:
        assert bring(web, tmp_path) == CONTENT
        assert web.ranges() == [None, "bytes=1000-", None]


def test_the_next_address_is_asked_where_one_does_not_have_it(tmp_path: Path) -> None:
    with Web({"/b/data.bin": CONTENT}) as web:
        assert bring(web, tmp_path, urls=[f"{web.url}/a/data.bin", f"{web.url}/b/data.bin"]) == CONTENT
        assert [path for path, _ in web.asked] == ["/a/data.bin", "/b/data.bin"]


def test_the_next_address_is_asked_where_one_serves_other_bytes(tmp_path: Path) -> None:
    with Web({"/data.bin": CONTENT}, [other(bytes(len(CONTENT)))]) as web:
        assert bring(web, tmp_path, urls=[f"{web.url}/data.bin"] * 2) == CONTENT


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([other(bytes(len(CONTENT)))], rf"sha256 {hashlib.sha256(bytes(len(CONTENT))).hexdigest()}, expected {FILE.sha256}"),
        ([other(b"<html>please log in</html>")], "serves another file than was published: 26 bytes, expected 300,000"),
        ([other(bytes(300_001))], "300,001 bytes, expected 300,000"),
    ],
)
def test_other_bytes_are_refused_and_deleted(tmp_path: Path, plan: list[Answer], said: str) -> None:
    with Web({"/data.bin": CONTENT}, plan) as web, pytest.raises(IntegrityError, match=said) as caught:
        bring(web, tmp_path)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_body_without_end_is_cut_off_at_the_published_size(tmp_path: Path) -> None:
    def endless(handler: object, content: bytes) -> None:
        handler.head(200, Transfer_Encoding="chunked")  # type: ignore[attr-defined]
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")  # type: ignore[attr-defined]

    with Web({"/data.bin": CONTENT}, [endless]) as web, pytest.raises(IntegrityError, match="more than 300,000 bytes"):
        bring(web, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(404), "answers 404 Not Found$"),
        (status(500), r"answers 500 Internal Server Error \(3 attempts\)"),
        (silence, r"[Rr]ead timed out.* \(3 attempts\)"),
        (drip, r"sends \d+ bytes a second \(3 attempts\)"),
        (cut(10), r"ends after 30 of 300,000 bytes \(3 attempts\)"),
    ],
)
def test_a_server_that_does_not_answer_is_given_up_and_named(tmp_path: Path, answer: Answer, said: str) -> None:
    with Web({"/data.bin": CONTENT}, [answer] * 3) as web, pytest.raises(ServiceError, match=said) as caught:
        bring(web, tmp_path)
    assert str(caught.value).startswith(f"{web.url}/data.bin: ")
    assert caught.value.exit_code == 4


def test_a_closed_port_is_named_with_its_cause(tmp_path: Path) -> None:
    with Web() as web:
        pass
    with pytest.raises(ServiceError, match="Connection refused"):
        bring(web, tmp_path)


def test_passwords_and_keys_in_addresses_are_not_shown(tmp_path: Path) -> None:
    with Web() as web, pytest.raises(ServiceError) as caught:
        bring(web, tmp_path, urls=[f"http://me:secret@{web.host}/data.bin?key=secret"])
    assert "secret" not in str(caught.value)
    assert f"{web.url}/data.bin: answers 404" in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://example.org/data.bin",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/data.bin",
        "http://[::1]/data.bin",
        "http://[::ffff:127.0.0.1]/data.bin",
        "http://[fe80::1]/data.bin",
        "http://2130706433/data.bin",
        "http://0x7f.1/data.bin",
        "http://0/data.bin",
        "http://localhost/data.bin",
    ],
)
def test_a_redirect_to_where_none_may_lead_is_refused_before_anything_is_asked(tmp_path: Path, place: str) -> None:
    with Web({"/data.bin": CONTENT}, [redirect(place)]) as web, pytest.raises(IntegrityError, match="refused") as caught:
        bring(web, tmp_path)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_another_port_of_the_mirrors_machine_is_refused(tmp_path: Path) -> None:
    with Web({"/data.bin": CONTENT}) as inner, Web(plan=[redirect(f"{inner.url}/data.bin")]) as web:
        with pytest.raises(IntegrityError, match=r"127\.0\.0\.1 is not a public address"):
            bring(web, tmp_path)
        assert inner.asked == []


@pytest.mark.parametrize("place", ["http://[::bad", "http://example.org:port/x", "//host:99999999/x"])
def test_a_redirect_to_no_address_is_named(tmp_path: Path, place: str) -> None:
    with (
        Web({"/data.bin": CONTENT}, [redirect(place)]) as web,
        pytest.raises(ServiceError, match="sends one on to what is no address"),
    ):
        bring(web, tmp_path)


@pytest.mark.parametrize("length", [True, False])
def test_a_page_in_place_of_the_file_is_called_one_and_asked_for_once(tmp_path: Path, length: bool) -> None:
    def page(handler: Any, content: bytes) -> None:
        text = b"<html>please log in</html>"
        handler.head(
            200, Content_Type="text/html; charset=utf-8", **({"Content_Length": 26} if length else {"Connection": "close"})
        )
        handler.wfile.write(text)
        handler.close_connection = True

    with Web({"/data.bin": CONTENT}, [page]) as web, pytest.raises(TrainyardError, match="of a web page: it may ask to log in"):
        bring(web, tmp_path)
    assert len(web.asked) == 1 and list(tmp_path.iterdir()) == []


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    with Web({"/data.bin": CONTENT}, [redirect("/data.bin")] * 50) as web, pytest.raises(ServiceError, match="8 redirects"):
        bring(web, tmp_path)


def test_progress_says_how_far_how_fast_and_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.data.download.PROGRESS_SECONDS", 0.0)
    said: list[str] = []
    with Web({"/data.bin": CONTENT}) as web:
        download(FILE, [f"{web.url}/data.bin"], tmp_path / "data.bin", trusted=web.host, progress=said.append)
    assert said[-1].startswith("data.bin: 300.0 kB of 300.0 kB, ")
    assert said[-1].endswith("/s, 0:00 left")


def in_process(web: Web, folder: Path) -> str:
    """Return code that downloads the file in a process of its own."""
    return (
        "from pathlib import Path; from trainyard.data.descriptor import PublishedFile; "
        "from trainyard.data.download import download; "
        f"file = PublishedFile(name='data.bin', urls=('http://example.org/x',), bytes={FILE.bytes}, sha256={FILE.sha256!r}); "
        f"download(file, ['{web.url}/data.bin'], Path({str(folder / 'data.bin')!r}), trusted='{web.host}')"
    )


@pytest.mark.faults
def test_a_killed_download_is_resumed_by_the_next_process(tmp_path: Path, root: Path) -> None:
    def stuck(handler: object, content: bytes) -> None:
        handler.head(200, Content_Length=len(content), ETag='"v1"')  # type: ignore[attr-defined]
        handler.wfile.write(content[:200_000])  # type: ignore[attr-defined]
        time.sleep(20)

    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    with Web({"/data.bin": CONTENT}, [stuck]) as web:
        first = subprocess.Popen([sys.executable, "-c", in_process(web, tmp_path)], env=environment)
        part = tmp_path / "data.bin.part"
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()
        have = part.stat().st_size
        assert 0 < have <= 200_000
        subprocess.run([sys.executable, "-c", in_process(web, tmp_path)], env=environment, check=True)
        assert web.ranges() == [None, f"bytes={have}-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.faults
def test_a_full_disk_keeps_what_came(tmp_path: Path, out_of_space: Callable[[str], str]) -> None:
    with Web({"/data.bin": CONTENT}) as web:
        assert "File too large" in out_of_space(in_process(web, tmp_path))
        assert (tmp_path / "data.bin.part").stat().st_size == 10_000
        assert bring(web, tmp_path) == CONTENT
        assert web.ranges() == [None, "bytes=10000-"]


def test_every_failure_is_one_of_ours(tmp_path: Path) -> None:
    def nonsense(handler: object, content: bytes) -> None:
        handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")  # type: ignore[attr-defined]
        handler.close_connection = True  # type: ignore[attr-defined]

    with Web({"/data.bin": CONTENT}, [nonsense] * 3) as web, pytest.raises(TrainyardError):
        bring(web, tmp_path)
