from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainyard.dvc_lock import COPY, LOCK, entries_of, keep_copy, mend_lock, read_lock, whole_part
from trainyard.errors import IntegrityError


def entry(number: int) -> str:
    return f"""\
  train@r{number}:
    cmd: python train.py r{number}
    deps:
    - path: data/r{number}
      hash: md5
      md5: {"a" * 31}{number}.dir
      size: 12
      nfiles: 2
    params:
      params.yaml:
        recipes.r{number}.train:
          epochs: {number}
    outs:
    - path: models/r{number}
      hash: md5
      md5: {"b" * 31}{number}
      size: 7
"""


def lock(count: int) -> bytes:
    return ("schema: '2.0'\nstages:\n" + "".join(entry(number) for number in range(count))).encode()


@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_lock_cut_off_anywhere_comes_back_from_its_copy(tmp_path: Path, percent: int) -> None:
    whole = lock(6)
    (tmp_path / LOCK).write_bytes(whole)
    keep_copy(tmp_path)
    (tmp_path / LOCK).write_bytes(whole[: len(whole) * percent // 100])
    line = mend_lock(tmp_path)
    assert line is not None and line.startswith("dvc.lock: was damaged (") and "put back from .trainyard/dvc.lock.good" in line
    assert (tmp_path / LOCK).read_bytes() == whole


@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_whole_entries_of_a_cut_off_lock_are_kept_beside_those_of_an_older_copy(tmp_path: Path, percent: int) -> None:
    older, newer = lock(2), lock(6)
    (tmp_path / LOCK).write_bytes(older)
    keep_copy(tmp_path)
    torn = newer[: len(newer) * percent // 100]
    (tmp_path / LOCK).write_bytes(torn)
    mend_lock(tmp_path)
    found = entries_of((tmp_path / LOCK).read_bytes())
    everything: dict[str, Any] = entries_of(newer) or {}
    assert found is not None
    # What may look whole was cut within its last entry, which DVC then takes for changed.
    whole = {name: value for name, value in found.items() if everything[name] == value}
    assert len(found) - len(whole) <= 1
    assert whole.keys() >= whole_part(torn).keys()


@pytest.mark.parametrize("name", ["", " m", " md"])
def test_a_lock_cut_off_in_the_name_of_a_hash_is_damaged(name: str) -> None:
    whole = lock(2)
    cut = whole[: whole.rindex(b" md5\n")]
    assert entries_of(whole) is not None
    assert entries_of(cut + name.encode()) is None


def test_without_a_copy_or_git_the_whole_entries_are_what_is_left(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(lock(3)[:-20])
    line = mend_lock(tmp_path)
    assert line is not None and "rebuilt from its whole entries: 2 stages" in line
    assert (tmp_path / LOCK).read_bytes() == lock(2)


@pytest.mark.parametrize("content", [b"", b"schema: '2.0'\nstages:\n  train@r0:\n    cmd", b"\x00\xff\x00"])
def test_a_lock_of_which_nothing_is_left_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"dvc.lock: is damaged, and neither .* nor git has a whole one; delete it"):
        mend_lock(tmp_path)
    assert (tmp_path / LOCK).read_bytes() == content


def test_a_whole_lock_and_a_missing_one_are_left_alone(tmp_path: Path) -> None:
    assert mend_lock(tmp_path) is None
    (tmp_path / LOCK).write_bytes(lock(2))
    keep_copy(tmp_path)
    (tmp_path / LOCK).write_bytes(lock(3))
    assert mend_lock(tmp_path) is None
    assert (tmp_path / LOCK).read_bytes() == lock(3)


def test_a_damaged_copy_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / COPY).parent.mkdir()
    (tmp_path / COPY).write_bytes(lock(6)[:40])
    (tmp_path / LOCK).write_bytes(lock(6)[:-20])
    mend_lock(tmp_path)
    assert (tmp_path / LOCK).read_bytes() == lock(5)


def commit(folder: Path, entries: list[str], *, branch: str = "") -> None:
    """Commit a lock of these entries, on a new branch where one is named."""
    (folder / LOCK).write_text("schema: '2.0'\nstages:\n" + "".join(entries))
    for arguments in (["checkout", "-q", "-b", branch] if branch else ["status"], ["add", LOCK], ["commit", "-q", "-m", "x"]):
        git(folder, *arguments)


def git(folder: Path, *arguments: str, code: int = 0) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@trainyard.invalid")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr


def test_a_lock_that_git_could_not_merge_has_whole_entries_of_both_sides(tmp_path: Path) -> None:
    def made(number: int, data: str = "a", weights: str = "b") -> str:
        return entry(number).replace(f"{'a' * 31}{number}", f"{data * 31}{number}").replace("b" * 31, weights * 31)

    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path, [made(number) for number in range(4)])
    commit(tmp_path, [made(0), made(1, "c"), made(2, "c", "d"), made(3, weights="e"), made(5)], branch="side")
    git(tmp_path, "checkout", "-q", "main")
    # Of the third, git would take the other side's data, and ask about the weights: an entry that never was.
    commit(tmp_path, [made(0, weights="f"), made(1), made(2, weights="f"), made(3, weights="e")])
    git(tmp_path, "merge", "side", code=1)
    assert entries_of((tmp_path / LOCK).read_bytes()) is None
    with pytest.raises(IntegrityError, match="git left a merge conflict in it; put it right: trainyard repair"):
        read_lock(tmp_path)

    line = mend_lock(tmp_path)
    assert line is not None and line.endswith("5 stages; next: dvc repro, then git add dvc.lock")
    assert "those of HEAD for train@r2, which both had changed" in line
    wanted = [made(0, weights="f"), made(1, "c"), made(2, weights="f"), made(3, weights="e"), made(5)]
    assert read_lock(tmp_path) == entries_of(("schema: '2.0'\nstages:\n" + "".join(wanted)).encode())
    assert mend_lock(tmp_path) is None
