"""A machine that loses its power, or a writer that is killed, at any write: the newest complete checkpoint loads."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainyard.training import checkpoint
from trainyard.training.checkpoint import Facts

pytestmark = pytest.mark.faults
PIECES = 12
"""Writes that a state takes."""


def facts(step: int) -> Facts:
    return Facts(fingerprint="a", epoch=step, step=step, ended=True, score=float(step), finished=False)


def state(step: int) -> bytes:
    return bytes([step]) * 40_000


class Disk:
    """Copies a folder at each write, rename and flush, as it would be found after a power cut at that moment.

    Of a file, that is as much as was flushed to the disk; the rest was in the memory alone.
    """

    def __init__(self, folder: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.copies = folder, copies
        self.count = 0
        self.done = 0
        """Step of the newest checkpoint whose write had returned."""
        self.flushed: dict[int, int] = {}
        self.found: list[tuple[Path, int]] = []
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def watched_fsync(descriptor: int) -> None:
            fsync(descriptor)
            status = os.fstat(descriptor)
            self.flushed[status.st_ino] = status.st_size
            self.copy()

        def watched(call: Callable[..., None]) -> Callable[..., None]:
            def run(*arguments: Any, **options: Any) -> None:
                call(*arguments, **options)
                self.copy()

            return run

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched(replace))
        monkeypatch.setattr(os, "unlink", watched(unlink))

    def save(self, step: int) -> Callable[[Any], None]:
        def write(file: Any) -> None:
            content = state(step)
            size = len(content) // PIECES + 1
            for start in range(0, len(content), size):
                file.write(content[start : start + size])
                file.flush()
                self.copy()

        return write

    def copy(self) -> None:
        self.count += 1
        for lost in (False, True):
            place = self.copies / f"{self.count}-{'power' if lost else 'process'}"
            for path in sorted(self.folder.rglob("*")):
                target = place / path.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    content = path.read_bytes()
                    target.write_bytes(content[: self.flushed.get(path.stat().st_ino, 0)] if lost else content)
            self.found.append((place, self.done))


def test_after_a_power_cut_at_any_write_the_newest_complete_checkpoint_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    disk = Disk(folder, tmp_path / "copies", monkeypatch)
    for step in range(1, 6):
        checkpoint.write(folder, facts(step), disk.save(step))
        disk.done = step
        checkpoint.prune(checkpoint.stated(folder, "a")[0])
    monkeypatch.undo()
    assert disk.count >= 50
    for place, done in disk.found:
        found = checkpoint.newest(place, "a", tmp_path / "copy")
        if done == 0 and found is None:
            continue
        assert found is not None, place
        assert found.refused == [], place
        assert found.checkpoint.facts.step in (done, done + 1), place
        assert found.state.read_bytes() == state(found.checkpoint.facts.step)


def test_a_writer_that_is_killed_leaves_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    """Twenty writers, each of them killed in another write."""
    folder = tmp_path / "store"
    for step in range(1, 21):
        reached = tmp_path / f"reached-{step}"

        def save(file: Any, step: int = step, reached: Path = reached) -> None:
            content = state(step)
            cut = len(content) * step // 21
            file.write(content[:cut])
            file.flush()
            reached.touch()
            time.sleep(600)

        checkpoint.write(folder, facts(step), lambda file, step=step: file.write(state(step)))  # type: ignore[misc]
        child = os.fork()
        if child == 0:
            try:
                checkpoint.write(folder, facts(step + 1), save)
            finally:
                os._exit(1)
        try:
            deadline = time.monotonic() + 120
            while not reached.exists():
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = checkpoint.newest(folder, "a", tmp_path / "copy")
        assert found is not None and found.refused == []
        assert found.checkpoint.facts.step == step
    shutil.rmtree(folder)
