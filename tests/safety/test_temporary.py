from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.training import ray_start
from trainyard.training.ray_start import PrivateFolder

STAGE = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[1], 8))
from trainyard.stage import run_stage

def work(clock):
    Path("made").mkdir()
    Path("made/file").write_text("x")
    return "done"

run_stage("cnn", "train", work)
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_private_folder_is_its_owners_alone_and_has_no_name_to_guess(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = os.umask(umask)
    try:
        folders = [PrivateFolder() for _ in range(2)]
    finally:
        os.umask(old)
    assert len({folder.path.name for folder in folders}) == 2
    for folder in folders:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert len(folder.path.name) >= len("ty-") + 8
        folder.remove()
        assert not folder.path.exists()


@pytest.mark.parametrize("umask", ["000", "077"])
def test_a_stage_works_under_every_umask_and_lets_nobody_else_write(umask: str, tmp_path: Path, root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "DVC_ROOT": str(tmp_path)}
    environment.pop("DVC_STAGE", None)
    command = [sys.executable, "-c", STAGE, umask]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    made = [tmp_path / "made", tmp_path / "made" / "file", tmp_path / ".trainyard"]
    assert not [path for path in made if path.stat().st_mode & stat.S_IWOTH]


def test_what_another_user_put_under_such_a_name_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ray_start, "LONGEST_PLACE", 500)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch()
    (tmp_path / "ty-link").symlink_to(precious)
    (tmp_path / "ty-pipe").mkdir()
    os.mkfifo(tmp_path / "ty-pipe" / "lock")
    (tmp_path / "ty-other").mkdir()
    (tmp_path / "ty-other" / "lock").touch()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    PrivateFolder().remove()
    assert (tmp_path / "ty-other" / "lock").exists()
    monkeypatch.setattr(os, "getuid", lambda: mine)
    PrivateFolder().remove()
    assert not (tmp_path / "ty-other").exists()
    assert (precious / "lock").exists() and (tmp_path / "ty-pipe" / "lock").exists()
