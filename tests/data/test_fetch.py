from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.web import Web, cut, other, status

from trainyard.data.descriptor import Arrangement, Descriptor, Licence, PublishedFile, Unpack
from trainyard.data.download import Patience
from trainyard.data.fetch import Fetched, downloads_folder, fetch, is_fetched
from trainyard.errors import InputError, IntegrityError, MachineError, ServiceError

HASTY = Patience(pauses=(0.01, 0.01))


def published(name: str, content: bytes, **keys: Any) -> PublishedFile:
    digest = hashlib.sha256(content).hexdigest()
    return PublishedFile(name=name, urls=(f"http://example.org/{name}",), bytes=len(content), sha256=digest, **keys)


def described(*files: PublishedFile, **keys: Any) -> Descriptor:
    licence = Licence(name="CC0", url="https://example.org/cc0")
    return Descriptor(name="toys", about="Toys", licence=licence, citation="Nobody", source="image_folder", files=files, **keys)


PLAIN = {"a.bin": b"one" * 1000, "b.bin": b"two"}
TOYS = described(*(published(name, content) for name, content in PLAIN.items()))


def on_the_web(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"/toys/{name}": content for name, content in contents.items()}


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A zip of two pictures in two classes."""
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("cat/0.png", b"a cat")
        whole.writestr("dog/0.png", b"a dog")
    content = path.read_bytes()
    path.unlink()
    return content


def test_files_are_fetched_once_and_the_licence_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with Web(on_the_web(PLAIN)) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        for _ in range(2):
            assert fetch(TOYS, tmp_path, progress=said.append) == Fetched(root=tmp_path, path="toys")
        assert [path for path, _ in web.asked] == ["/toys/a.bin", "/toys/b.bin"]
    assert (tmp_path / "toys" / "a.bin").read_bytes() == PLAIN["a.bin"]
    assert said == [
        f"fetches toys (2 files, 3.0 kB) into {tmp_path / 'toys'}",
        "licence of toys: CC0, https://example.org/cc0",
    ]
    assert is_fetched(TOYS, tmp_path)


def test_only_what_is_missing_or_changed_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with Web(on_the_web(PLAIN)) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        fetch(TOYS, tmp_path)
        (tmp_path / "toys" / "b.bin").write_bytes(b"twx")
        fetch(TOYS, tmp_path, progress=said.append)
        assert [path for path, _ in web.asked] == ["/toys/a.bin", "/toys/b.bin", "/toys/b.bin"]
    assert (tmp_path / "toys" / "b.bin").read_bytes() == b"two"
    assert "is not the published file (sha256 " in said[0]


def test_a_file_put_there_by_hand_is_taken_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_MIRROR", "http://127.0.0.1:1")
    (tmp_path / "toys").mkdir()
    for name, content in PLAIN.items():
        (tmp_path / "toys" / name).write_bytes(content)
    fetch(TOYS, tmp_path)


def test_a_failure_names_the_address_the_cause_and_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Web(plan=[status(503)] * 9) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        with pytest.raises(ServiceError) as caught:
            fetch(TOYS, tmp_path, patience=HASTY)
        said = str(caught.value)
        assert said.startswith(f"{web.url}/toys/a.bin: answers 503 Service Unavailable (3 attempts). Ways out: ")
    assert "correct or unset TRAINYARD_MIRROR" in said
    assert f"or put the file (3,000 bytes, sha256 {TOYS.files[0].sha256}) at {tmp_path / 'toys' / 'a.bin'}" in said


def test_without_a_mirror_the_published_addresses_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_MIRROR", raising=False)
    with Web(on_the_web(PLAIN)) as web:
        here = described(PublishedFile(name="a.bin", urls=(f"{web.url}/toys/a.bin",), bytes=3000, sha256="0" * 64))
        with pytest.raises(IntegrityError, match=r"127\.0\.0\.1 is not a public address; set TRAINYARD_MIRROR"):
            fetch(here, tmp_path)
        assert web.asked == []


def test_other_bytes_are_refused_with_both_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = b"bad" * 1000
    with Web(plan=[other(wrong)]) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        with pytest.raises(IntegrityError) as caught:
            fetch(TOYS, tmp_path)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert f"expected {TOYS.files[0].sha256}" in str(caught.value)
    assert list((tmp_path / "toys").iterdir()) == []


def test_a_mirror_may_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror" / "toys").mkdir(parents=True)
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "mirror"))
    for name, content in PLAIN.items():
        (tmp_path / "mirror" / "toys" / name).write_bytes(content)
    fetch(TOYS, tmp_path / "here")
    assert (tmp_path / "here" / "toys" / "b.bin").read_bytes() == b"two"


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"", IntegrityError, "holds other bytes than were published: 0 bytes, expected 3,000"),
        (b"bad" * 1000, IntegrityError, "holds other bytes than were published: sha256"),
        (None, ServiceError, "the mirror has no such file"),
    ],
)
def test_a_mirror_that_is_a_folder_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, error: type[Exception], said: str
) -> None:
    (tmp_path / "mirror" / "toys").mkdir(parents=True)
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "mirror"))
    if content is not None:
        (tmp_path / "mirror" / "toys" / "a.bin").write_bytes(content)
    with pytest.raises(error, match=said):
        fetch(TOYS, tmp_path / "here")
    assert list((tmp_path / "here" / "toys").iterdir()) == []


def test_a_mirror_that_may_not_be_read_is_not_taken_for_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "toys").mkdir(parents=True)
    (tmp_path / "mirror" / "toys" / "a.bin").write_bytes(PLAIN["a.bin"])
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "mirror"))

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", lambda path: refuse(path) if "mirror" in path.parts else os.path.isfile(path))
    with pytest.raises(ServiceError, match=r"toys/a.bin: the mirror cannot be read \(Permission denied\); make it readable"):
        fetch(TOYS, tmp_path / "here")


@pytest.mark.parametrize("mirror", ["file:///tmp", "http://[::bad", "http://host:port"])
def test_a_mirror_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("TRAINYARD_MIRROR", mirror)
    with pytest.raises(InputError, match=r"TRAINYARD_MIRROR .*: is neither a folder nor an http or https address"):
        fetch(TOYS, tmp_path)


def test_an_archive_is_unpacked_once_and_again_where_a_file_of_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    toys = described(published("toys.zip", archive, unpack=Unpack()), published("b.bin", b"two"), reads="cat")
    said: list[str] = []
    with Web(on_the_web({"toys.zip": archive, "b.bin": b"two"})) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        fetched = fetch(toys, tmp_path, progress=said.append)
        inside = fetched.root / "toys"
        assert (fetched.path, (fetched.root / fetched.path / "0.png").read_bytes()) == ("toys/cat", b"a cat")
        assert (inside / "b.bin").read_bytes() == b"two"
        said.clear()
        assert fetch(toys, tmp_path, progress=said.append) == fetched and said == []
        for damage in (
            lambda: (inside / "dog" / "0.png").write_bytes(b"a dug"),
            lambda: (inside / "dog" / "0.png").unlink(),
            lambda: (inside / "dog" / "1.png").write_bytes(b"more"),
            lambda: (fetched.root / "listing.json").write_text("["),
            lambda: shutil.rmtree(inside),
        ):
            damage()
            fetch(toys, tmp_path, progress=said.append)
            assert "is not what was unpacked; unpacks it again" in said[-2]
            assert sorted(path.name for path in inside.rglob("*.png")) == ["0.png", "0.png"]
            assert (inside / "dog" / "0.png").read_bytes() == b"a dog"
        assert len(web.asked) == 2


def test_an_archive_that_is_refused_leaves_nothing_to_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    toys = described(published("toys.zip", archive, unpack=Unpack(most_members=1)))
    with Web(on_the_web({"toys.zip": archive})) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        with pytest.raises(IntegrityError, match="has more than 1 members"):
            fetch(toys, tmp_path)
    assert [path.name for path in (tmp_path / "toys").iterdir()] == ["toys.zip"]


def test_files_beside_an_archive_are_copied_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    contents = {"toys.zip": archive, "names.txt": b"cat dog"}
    (tmp_path / "mirror" / "toys").mkdir(parents=True)
    for name, content in contents.items():
        (tmp_path / "mirror" / "toys" / name).write_bytes(content)
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "mirror"))

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("trainyard.data.fetch.os.link", refuse)
    toys = described(published("toys.zip", archive, unpack=Unpack()), published("names.txt", b"cat dog"))
    found = fetch(toys, tmp_path / "here")
    assert (found.root / "toys" / "names.txt").read_bytes() == b"cat dog" and (found.root / "toys" / "cat").is_dir()


def test_other_rules_of_unpacking_give_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes) -> None:
    file = published("toys.zip", archive, unpack=Unpack())
    with Web(on_the_web({"toys.zip": archive})) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        first = fetch(described(file), tmp_path)
        rule = Arrangement(lists={"train": "names.txt"}, files={"images": "cat/{name}.png"})
        listed = published("names.txt", b"0\n")
        web.files["/toys/names.txt"] = b"0\n"
        second = fetch(described(file, listed, arrange=rule, reads="arranged"), tmp_path)
        assert [path for path, _ in web.asked] == ["/toys/toys.zip", "/toys/names.txt"]
    assert first.root != second.root
    assert (second.root / second.path / "train" / "images" / "0.png").read_bytes() == b"a cat"
    assert (first.root / "toys" / "cat" / "0.png").exists()


@pytest.mark.faults
def test_two_processes_fetch_a_file_once(tmp_path: Path, root: Path) -> None:
    with Web(on_the_web(PLAIN), [cut(1000)]) as web:
        environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "TRAINYARD_MIRROR": web.url}
        code = f"from tests.data.test_fetch import *; fetch(TOYS, Path({str(tmp_path)!r}), progress=print)"
        both = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        assert [process.communicate(timeout=30) and process.returncode for process in both] == [0, 0]
        assert sorted(path for path, _ in web.asked) == ["/toys/a.bin", "/toys/a.bin", "/toys/b.bin"]
    assert sorted(path.name for path in (tmp_path / "toys").iterdir()) == ["a.bin", "b.bin"]


@pytest.mark.faults
def test_a_full_disk_is_named_and_the_next_run_continues(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, out_of_space: Callable[[str], str]
) -> None:
    content = bytes(range(256)) * 100
    with Web({"/toys/a.bin": content}) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        code = (
            f"import sys; sys.path.insert(0, {str(root)!r}); from tests.data.test_fetch import *;"
            f"fetch(described(published('a.bin', bytes(range(256)) * 100)), Path({str(tmp_path)!r}))"
        )
        said = out_of_space(code)
        assert "MachineError" in said and "cannot be written (File too large; " in said and "what came so far is kept" in said
        fetch(described(published("a.bin", content)), tmp_path)
        assert web.ranges() == [None, "bytes=10000-"]


def test_a_disk_without_room_is_named_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = described(PublishedFile(name="a.bin", urls=("http://example.org/a",), bytes=10**18, sha256="0" * 64))
    with pytest.raises(MachineError, match=r"a\.bin needs 1,000,000,000,000,000,000 bytes more.*TRAINYARD_DOWNLOADS") as caught:
        fetch(huge, tmp_path)
    assert caught.value.exit_code == 3


def test_downloads_go_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("TRAINYARD_DOWNLOADS", raising=False)
    assert downloads_folder() == tmp_path / ".trainyard" / "downloads"
    monkeypatch.setenv("TRAINYARD_DOWNLOADS", str(tmp_path / "shared"))
    assert downloads_folder() == tmp_path / "shared"
