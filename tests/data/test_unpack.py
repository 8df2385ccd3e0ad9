from __future__ import annotations

import gzip
import io
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.data.descriptor import Unpack
from trainyard.data.unpack import unpack
from trainyard.errors import IntegrityError

LIMITS = Unpack(most_bytes=1_000_000, most_members=20)


def tar(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """Write an archive with files by name and content, or with members of any kind."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(path: Path, *members: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def refused(archive: Path, said: str, limits: Unpack = LIMITS) -> None:
    """Unpack into a folder of its own, and see that nothing got out of it."""
    before = sorted(archive.parent.rglob("*"))
    target = archive.parent / "out"
    with pytest.raises(IntegrityError, match=said) as caught:
        unpack(archive, target, limits)
    assert caught.value.exit_code == 5
    assert [path for path in sorted(archive.parent.rglob("*")) if path not in before and not path.is_relative_to(target)] == []
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar", "a.zip"])
def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path, name: str) -> None:
    members = (("top/", b""), ("top/a.txt", b"one"), ("./top/deep/b.txt", b"two" * 1000))
    if name == "a.zip":
        zipped(tmp_path / name, *members)
    elif name == "a.tar":
        (tmp_path / name).write_bytes(gzip.decompress(tar(tmp_path / "x.tgz", *members[1:]).read_bytes()))
    else:
        tar(tmp_path / name, special("top", tarfile.DIRTYPE), *members[1:])
    unpack(tmp_path / name, tmp_path / "out", Unpack(into="inner"))
    inner = tmp_path / "out" / "inner"
    assert sorted(str(path.relative_to(inner)) for path in inner.rglob("*.txt")) == ["top/a.txt", "top/deep/b.txt"]
    assert (inner / "top" / "deep" / "b.txt").read_bytes() == b"two" * 1000


def test_a_gzip_file_loses_its_ending(tmp_path: Path) -> None:
    (tmp_path / "series.csv.gz").write_bytes(gzip.compress(b"a,b\n"))
    unpack(tmp_path / "series.csv.gz", tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / "series.csv").read_bytes() == b"a,b\n"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "C:/evil", "..", "a/" * 50 + "b", "x" * 300]
)
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_no_member_leaves_the_folder(tmp_path: Path, name: str, form: str) -> None:
    archive = tar(tmp_path / "a.tgz", (name, b"x")) if form == "tar" else zipped(tmp_path / "a.zip", (name, b"x"))
    refused(archive, "member")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (special("link", tarfile.SYMTYPE, "inside"), "is a link"),
        (special("link", tarfile.LNKTYPE, "inside"), "is a link"),
        (special("null", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (special("disk", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (special("pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (("inside", b"again"), "is there twice"),
        (("inside/below", b"x"), "is below a file"),
        (special("inside", tarfile.DIRTYPE), "is a file and a folder"),
    ],
)
def test_only_plain_files_and_folders_are_unpacked(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], said: str
) -> None:
    refused(tar(tmp_path / "a.tgz", ("inside", b"x"), member), said)


def test_a_file_behind_a_link_is_not_written_through_it(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    refused(tar(tmp_path / "a.tgz", special("d", tarfile.SYMTYPE, str(tmp_path / "outside")), ("d/evil", b"x")), "is a link")


@pytest.mark.parametrize(("mode", "said"), [(stat.S_IFLNK | 0o777, "is a link"), (stat.S_IFIFO, "neither a plain file")])
def test_links_and_pipes_of_a_zip_are_refused(tmp_path: Path, mode: int, said: str) -> None:
    refused(zipped(tmp_path / "a.zip", ("link", b"/etc/passwd"), mode=mode), said)


def test_modes_are_not_taken_over(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run")
    info.mode = 0o6777
    unpack(tar(tmp_path / "a.tgz", info), tmp_path / "out", LIMITS)
    assert stat.S_IMODE((tmp_path / "out" / "run").stat().st_mode) & 0o7111 == 0


@pytest.mark.parametrize("form", ["tar", "zip", "gz"])
def test_a_bomb_stops_at_the_limit(tmp_path: Path, form: str) -> None:
    zeros = bytes(5_000_000)
    if form == "gz":
        (tmp_path / "a.gz").write_bytes(gzip.compress(zeros))
    archive = {
        "tar": lambda: tar(tmp_path / "a.tgz", ("zeros", zeros)),
        "zip": lambda: zipped(tmp_path / "a.zip", ("zeros", zeros)),
        "gz": lambda: tmp_path / "a.gz",
    }[form]()
    refused(archive, "unpacks to more than 1,000,000 bytes")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1_000_000


def test_a_ratio_beyond_belief_is_refused(tmp_path: Path) -> None:
    refused(
        tar(tmp_path / "a.tgz", ("zeros", bytes(30_000_000))),
        "unpacks to more than 200 times its size",
        Unpack(most_bytes=10**9, most_members=20),
    )


def test_small_files_of_zeros_are_no_bomb(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "a.tgz", ("zeros", bytes(900_000))), tmp_path / "out", LIMITS)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_too_many_members_are_refused(tmp_path: Path, form: str) -> None:
    members = [(f"{number}", b"") for number in range(21)]
    archive = tar(tmp_path / "a.tgz", *members) if form == "tar" else zipped(tmp_path / "a.zip", *members)
    refused(archive, "has more than 20 members")


def long_header(path: Path) -> Path:
    """Write a tar archive that says that the extended header of its first member has 8 GB."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 * 2**30 - 1
    path.write_bytes(gzip.compress(info.tobuf() + bytes(10_000)))
    return path


def negative_size(path: Path) -> Path:
    """Write a tar archive whose member is -1024 bytes long, so that the next one would be the same one again."""
    block = bytearray(tarfile.TarInfo("x").tobuf(format=tarfile.GNU_FORMAT))
    block[124:136] = (2**96 - 1024).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    path.write_bytes(gzip.compress(bytes(block) + bytes(10_000)))
    return path


def sparse(path: Path) -> Path:
    """Write a tar archive with a file of a gigabyte that holds nothing (GNU's form in extended headers)."""
    info = tarfile.TarInfo("hole")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": "1073741824",
    }
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (long_header, "has a header of 8,589,934,592 bytes"),
        (negative_size, "negative size|begins or ends outside|more than 20 members|make no sense|no whole archive"),
        (sparse, "neither a plain file nor a folder"),
    ],
)
def test_headers_that_lie_cost_neither_memory_nor_time(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    began = time.monotonic()
    refused(make(tmp_path / "a.tgz"), said)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.gz"])
@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_cut_archive_is_named(tmp_path: Path, name: str, keep: int) -> None:
    content = bytes(range(256)) * 40
    path = tmp_path / name
    if name == "a.gz":
        path.write_bytes(gzip.compress(content))
    else:
        (zipped if name == "a.zip" else tar)(path, ("x", content))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match="no whole archive"):
        unpack(path, tmp_path / "out", LIMITS)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("x", b"secret"))
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    path.write_bytes(bytes(content))
    refused(path, "is encrypted")
