"""A project of DVC whose stages do next to nothing, but are stages of ours: what is around a stage can be tried in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.pipeline.conftest import Project

PATIENCE = 150.0
"""Seconds that any of these waits may take on a machine with other things to do."""
PIPELINE = """\
stages:
  first:
    foreach: ${recipes}
    do:
      cmd: python work.py first ${key} raw.txt ${key}.first
      params:
        - recipes.${key}.first
      deps:
        - raw.txt
        - work.py
      outs:
        - ${key}.first
  second:
    foreach: ${recipes}
    do:
      cmd: python work.py second ${key} ${key}.first ${key}.second
      params:
        - recipes.${key}.second
      deps:
        - ${key}.first
        - work.py
      outs:
        - ${key}.second
"""
PARAMS = """\
recipes:
  a: {first: 1, second: 1}
  b: {first: 2, second: 2}
"""
WORK = """\
import json, os, sys, time
from pathlib import Path
from ruamel.yaml import YAML
from trainyard.stage import run_stage

stage, recipe, source, out = sys.argv[1:]

def work(clock):
    value = YAML(typ="safe").load(Path("params.yaml"))["recipes"][recipe][stage]
    Path(out).write_text("half")
    Path(f"begun-{stage}-{recipe}").write_text(str(os.getpid()))
    while Path(f"hold-{stage}-{recipe}").exists():
        time.sleep(0.02)
    if Path(f"fail-{stage}-{recipe}").exists():
        raise OSError(28, "No space left on device", out)
    Path(out).write_text(Path(source).read_text() + f"{stage} {value}\\n")
    return f"value {value}"

run_stage(recipe, stage, work)
"""


class SmallProject(Project):
    """Two recipes of two stages; a stage waits while its `hold-<stage>-<recipe>` is there."""

    def hold(self, stage: str) -> Path:
        """Have `first@a`, say, wait; return the file whose deletion lets it go on."""
        path = self.folder / f"hold-{stage.replace('@', '-')}"
        path.touch()
        return path

    def begun(self, stage: str) -> int:
        """Wait until a stage is at work, and return its process number."""
        path = self.folder / f"begun-{stage.replace('@', '-')}"
        log = self.folder / "start.log"

        def begins() -> bool:
            assert "ERROR" not in log.read_text() and "invalid" not in log.read_text(), log.read_text()
            return path.is_file() and path.read_text() != ""

        wait_until(begins, f"the start of {stage}")
        pid = int(path.read_text())
        path.unlink()
        return pid

    def outputs(self) -> dict[str, str]:
        """Return what the stages wrote."""
        return {path.name: path.read_text() for path in sorted(self.folder.glob("[ab].*"))}


EXPECTED = {
    "a.first": "raw\nfirst 1\n",
    "a.second": "raw\nfirst 1\nsecond 1\n",
    "b.first": "raw\nfirst 2\n",
    "b.second": "raw\nfirst 2\nsecond 2\n",
}


def make_small_project(root: Path, folder: Path, *, git: bool = True) -> SmallProject:
    """Write the project; nothing of it has run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "work.py").write_text(WORK)
    (folder / "raw.txt").write_text("raw\n")
    (folder / ".gitignore").write_text(".trainyard/\nbegun-*\nhold-*\nfail-*\n*.log\n")
    project = SmallProject(folder)
    project.environment["PYTHONPATH"] = str(root / "src")
    # DVC's own notes on files, so that no test touches another's.
    project.environment["DVC_SITE_CACHE_DIR"] = str(folder.parent / f"{folder.name}-notes")
    if git:
        project.run("git", "init", "-q", "-b", "main")
        project.run("git", "config", "user.email", "test@trainyard.invalid")
        project.run("git", "config", "user.name", "test")
        project.run("dvc", "init", "-q")
        project.run("git", "add", ".")
        project.run("git", "commit", "-q", "-m", "start")
    else:
        project.run("dvc", "init", "-q", "--no-scm")
    return project


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and fail with what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
