"""File systems of a test's own, mounted for real: small ones, and folders that become read-only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class Disks:
    """Mounts for one test, which are taken away after it. A test that cannot have one is skipped."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def small(self, folder: Path, size: str) -> Path:
        """Mount a file system of a size (`300k`, `12m`) at a folder, which is made if need be, and return the folder."""
        folder.mkdir(exist_ok=True)
        return self._mount(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def own(self, folder: Path) -> Path:
        """Make a folder one that can be mounted anew, with what is in it, and return it."""
        return self._mount(folder, "--bind", str(folder))

    def remount(self, folder: Path, options: str) -> None:
        """Change what `small` has mounted: `size=20m`, `ro`, `rw`."""
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    def make_read_only(self, folder: Path) -> None:
        """Refuse writes below what `own` has mounted."""
        self.remount(folder, "ro,bind")

    def make_writable(self, folder: Path) -> None:
        """Take writes again."""
        self.remount(folder, "rw,bind")

    def close(self) -> None:
        """Take all of them away."""
        while self._mounted:
            subprocess.run(["umount", "-l", self._mounted.pop()], check=True)

    def _mount(self, folder: Path, *options: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this machine mounts nothing: {done.stderr.strip()}")
        self._mounted.append(folder)
        return folder
