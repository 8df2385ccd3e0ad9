"""A server that only answers, and a project whose stages take no time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.head import FakeHead, serving
from trainyard.jobs.spec import JobSpec

DVC_YAML = """\
stages:
  make:
    cmd: python code/make.py
    deps: [code/make.py, raw]
    params: [size]
    outs: [made.txt]
    metrics:
      - report.json: {cache: false}
  tell:
    cmd: cat made.txt > told.txt
    deps: [made.txt]
    outs: [told.txt]
"""


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHead]:
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)
    with serving(FakeHead()) as running:
        yield running


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a remote, data that DVC tracks, and two stages; committed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    for name in ("DVC_ROOT", "DVC_STAGE", "TRAINYARD_GIT_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "small"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../../store\n")
    (tmp_path / "store").mkdir()
    (root / "code").mkdir()
    (root / "code" / "make.py").write_text("from pathlib import Path\nPath('made.txt').write_text('made')\n")
    (root / "params.yaml").write_text("size: 3\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "raw").write_text("data that is tracked by DVC\n")
    # As `dvc add raw` writes them.
    (root / "raw.dvc").write_text("outs:\n- md5: 2c4ebf0a2b0d7f3a7a31e4b1b7ad9d5c\n  size: 28\n  hash: md5\n  path: raw\n")
    (root / ".gitignore").write_text("/raw\n/made.txt\n/told.txt\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "test@trainyard.invalid")
    git(root, "config", "user.name", "test")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return root


@pytest.fixture
def spec(small: Path) -> JobSpec:
    return JobSpec(
        identity="0123456789abcdef",
        attempt=1,
        project="small-12345678",
        targets=("tell",),
        stages=("make", "tell"),
        kept=("report.json",),
        data=(),
        remote={"name": "store", "url": str(small.parent / "store")},
        shared=None,
        commit="f" * 40,
        dirty=True,
    )


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout
