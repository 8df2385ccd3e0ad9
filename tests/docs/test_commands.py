"""Every command of every page is run, here or by the test that the page names, or says why it is not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer.main

from tests.docs.blocks import Block, alike, pages, read
from tests.docs.readers import BRING
from tests.pipeline.conftest import Project, make_project
from trainyard.cli import app

ROOT = Path(__file__).parents[2]
BLOCKS = {page: read(ROOT, page) for page in pages(ROOT)}
LANGUAGES = {"bash", "json", "python", "text", "yaml"}
TYPED = re.compile(r"^ {4}(?:[A-Z_]+=\S+ )?(?:trainyard|dvc|make|python|git|kubectl|docker|ray|mlflow|sbatch|pip|curl) ", re.M)
COMMANDS: Any = typer.main.get_command(app)


@pytest.mark.parametrize("page", BLOCKS)
def test_what_is_typed_stands_in_a_fence_that_says_so(page: str) -> None:
    assert [block.name for block in BLOCKS[page] if block.language not in LANGUAGES] == []
    outside = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert TYPED.findall(outside) == [], "put it into a fence of bash"


@pytest.mark.parametrize("page", BLOCKS)
def test_what_is_not_run_here_has_a_reason_or_a_test(page: str) -> None:
    for block in BLOCKS[page]:
        if block.note.startswith("not run"):
            assert len(block.note.split()) > 3, f"{block.name}: say why"
        if block.note.startswith("run by"):
            assert (ROOT / block.note.split()[2]).exists(), f"{block.name}: there is no such test"


def spoken(page: str) -> list[str]:
    """Return the calls of `trainyard` that a page has, in its fences and in its sentences."""
    text = (ROOT / page).read_text(encoding="utf-8")
    # A name alone may be followed by what is no command: `trainyard ...`.
    inline = re.findall(r"`trainyard ([a-z][\w-]*[^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in BLOCKS[page] if block.language == "bash" for line in block.text.splitlines()]
    return inline + [call for line in lines for call in re.findall(r"(?:^|&& )trainyard ([^#&|]+)", line)]


@pytest.mark.parametrize("page", [page for page in BLOCKS if spoken(page)])
def test_the_commands_and_options_that_a_page_names_are_there(page: str) -> None:
    for call in spoken(page):
        name, *words = shlex.split(call.replace("'", "").replace('"', ""))
        assert name in COMMANDS.commands, f"trainyard {call}"
        known = {option for parameter in COMMANDS.commands[name].params for option in parameter.opts}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options - known - {"--help"} == set(), f"trainyard {call}"


def begun(page: str, folder: Path) -> Project:
    """Return a project of small recipes with what the reader of a page has."""
    project = make_project(ROOT, folder)
    project.environment.update(PYTHONPATH="src", COLUMNS="120", PYTHONWARNINGS="ignore")
    for name in ("examples", "data", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("raw", "prepared"))
    # The command of this tree, whatever is installed.
    (folder / ".trainyard" / "bin").mkdir(parents=True, exist_ok=True)
    command = folder / ".trainyard" / "bin" / "trainyard"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from trainyard.cli import main; main()' \"$@\"\n")
    command.chmod(0o755)
    project.environment["PATH"] = f"{command.parent}{os.pathsep}{project.environment['PATH']}"
    for bring in BRING.get(page, ()):
        bring(project)
    return project


KEEP = "[ ! -f .trainyard/exported ] || . .trainyard/exported\n{}\nexport -p > .trainyard/exported\n"
"""A reader's terminal stays: what one block exports, the next one has."""


class Reader:
    """Types the blocks of a page."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.open: list[subprocess.Popen[bytes]] = []

    def run(self, block: Block) -> None:
        """Run a block to its end, and look for the lines that the page shows."""
        done = subprocess.run(
            self._command(block),
            cwd=self.project.folder,
            env=self.project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{block.name} ended with {done.returncode}:\n{done.stdout}"
        assert (missing := lacking(block, done.stdout)) == [], f"{block.name} shows {missing}, but it printed:\n{done.stdout}"

    def start(self, block: Block) -> None:
        """Start a block, and wait until it has printed what the page shows."""
        log = self.project.folder / f"{len(self.open)}.log"
        with log.open("wb") as out:
            self.open.append(
                subprocess.Popen(
                    self._command(block), cwd=self.project.folder, env=self.project.environment, stdout=out, stderr=out
                )
            )
        deadline = time.monotonic() + 300
        while missing := lacking(block, log.read_text()):
            assert self.open[-1].poll() is None and time.monotonic() < deadline, f"{block.name}: {missing}\n{log.read_text()}"
            time.sleep(0.2)

    def close(self) -> None:
        """End what stays."""
        for process in self.open:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.wait(60)

    def _command(self, block: Block) -> list[str]:
        return (
            [sys.executable, "-c", block.text]
            if block.language == "python"
            else ["bash", "-euo", "pipefail", "-c", KEEP.format(block.text)]
        )


def lacking(block: Block, printed: str) -> list[str]:
    """Return the lines that a page shows and that were not printed, but for numbers."""
    said = {alike(line) for line in printed.splitlines()}
    return [line for line in block.shown.splitlines() if line.strip() not in ("", "...") and alike(line) not in said]


def type_all(page: str, blocks: list[Block], folder: Path) -> None:
    reader = Reader(begun(page, folder))
    try:
        for block in blocks:
            reader.start(block) if block.note == "background" else reader.run(block)
    finally:
        reader.close()


def quick(page: str) -> list[Block]:
    """Return the blocks of a page up to the first long one."""
    found: list[Block] = []
    for block in BLOCKS[page]:
        if block.note == "long":
            break
        found += [block] if block.runs else []
    return found


@pytest.mark.parametrize("page", [page for page in BLOCKS if quick(page)])
def test_the_quick_commands_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    type_all(page, quick(page), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [page for page in BLOCKS if any(block.note == "long" for block in BLOCKS[page])])
def test_all_commands_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    type_all(page, [block for block in BLOCKS[page] if block.runs], tmp_path)
