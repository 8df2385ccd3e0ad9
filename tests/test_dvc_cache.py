from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from trainyard.dvc_cache import cache_folder, mend_cache, place_of, verify_cache
from trainyard.errors import InputError, IntegrityError

RAW, MADE = b"a picture", b"weights"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A project whose raw data, a copy of them that a stage made, and weights are links to DVC's cache."""
    (tmp_path / ".dvc").mkdir()
    lines = ["schema: '2.0'", "stages:", "  train@cnn:", "    cmd: python train.py", "    outs:"]
    for name, content in (("copy.png", RAW), ("weights", MADE)):
        lines += [f"    - path: {name}", "      hash: md5", f"      md5: {md5(content)}"]
    (tmp_path / "dvc.lock").write_text("\n".join(lines) + "\n")
    (tmp_path / "raw.png.dvc").write_text(f"outs:\n- md5: {md5(RAW)}\n  hash: md5\n  path: raw.png\n")
    for name, content in (("raw.png", RAW), ("copy.png", RAW), ("weights", MADE)):
        place = place_of(cache_folder(tmp_path), md5(content))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        (tmp_path / name).symlink_to(place)
    return tmp_path


def test_raw_data_that_are_a_link_to_a_damaged_file_are_not_lost_with_it(linked: Path) -> None:
    verify_cache(linked)
    for content in (RAW, MADE):
        place_of(cache_folder(linked), md5(content)).write_bytes(b"damaged" + content)
    with pytest.raises(IntegrityError, match="2 of 2 files"):
        verify_cache(linked)
    done = "\n".join(mend_cache(linked))
    assert "raw.png: is damaged, 16 bytes; `dvc pull` fetches it; or put the original back" in done
    assert "weights: is damaged, 14 bytes; `dvc repro` makes it again" in done
    # What is left is as it was, for a person to look at; and no link leads nowhere, where DVC would stop.
    assert (linked / "raw.png").read_bytes() == b"damaged" + RAW and not (linked / "raw.png").is_symlink()
    assert not [path for path in linked.iterdir() if path.is_symlink()]
    assert not [path for path in cache_folder(linked).rglob("*") if path.is_file()]


def test_a_link_to_what_the_cache_lost_goes_and_a_whole_copy_comes_back(linked: Path) -> None:
    place = place_of(cache_folder(linked), md5(RAW))
    place.unlink()
    (linked / "copy.png").unlink()
    (linked / "copy.png").write_bytes(RAW)
    assert [line.rpartition("; ")[2] for line in mend_cache(linked)] == ["put back from the project's folder"]
    assert place.read_bytes() == (linked / "raw.png").read_bytes() == RAW


def test_settings_of_dvc_that_cannot_be_read_are_named(linked: Path) -> None:
    (linked / ".dvc" / "config").write_text("<<<<<<< HEAD\n[cache]\n    dir = x\n=======\n>>>>>>> side\n")
    with pytest.raises(InputError, match=r"\.dvc: DVC's settings cannot be read: .* line 1.*; mend `config`"):
        verify_cache(linked)
