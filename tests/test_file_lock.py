from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO, NoReturn

import pytest

from trainyard.errors import InputError, MachineError
from trainyard.file_lock import held_if_free, hold, take, wait_for


def never(_: IO[str]) -> NoReturn:
    raise AssertionError("nobody has it")


def test_a_lock_that_is_taken_is_waited_for_and_what_its_holder_wrote_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = path.open("w")
    other.write("pid 7")
    other.flush()
    assert take(other)
    said = []

    def tell(file: IO[str]) -> None:
        file.seek(0)
        said.append(file.read())
        other.close()

    with hold(path, tell), path.open() as third:
        assert not take(third)
    assert said == ["pid 7"]
    assert path.read_text() == "pid 7"


def test_a_lock_that_is_taken_may_be_refused_and_stays_with_its_holder(tmp_path: Path) -> None:
    def refuse(_: IO[str]) -> NoReturn:
        raise InputError("taken")

    with hold(tmp_path / "lock", never):
        with pytest.raises(InputError, match="taken"), hold(tmp_path / "lock", refuse):
            pass
        with held_if_free(tmp_path / "lock") as free:
            assert not free
    with held_if_free(tmp_path / "lock") as free:
        assert free


def test_a_lock_is_shared_by_those_who_share_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open() as one, path.open() as two, path.open() as three:
        wait_for(one, shared=True)
        assert take(two, shared=True)
        assert not take(three)


def test_a_file_system_without_locks_is_named_with_what_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(MachineError, match=r"lock: cannot be locked \(No locks available\); mount that file system with locks"),
        hold(tmp_path / "lock", never),
    ):
        pass
