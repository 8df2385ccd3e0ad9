from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.files import write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.faults
def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path: Path, out_of_space: Callable[[str], str]) -> None:
    write_whole(tmp_path / "file", b"old")
    said = out_of_space(
        "import pathlib; from trainyard.files import write_whole; write_whole(pathlib.Path('file'), bytes(20000))"
    )
    assert said.rstrip().endswith("OSError: [Errno 27] File too large: 'file'")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
