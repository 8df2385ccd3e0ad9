"""A small project: this one's own files in a git repository of their own, with recipes that train in seconds."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

COPIED = ("src/", "pipeline/", ".dvc/", "dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock", "champions/")
TRAINYARD = ("python", "-c", "from trainyard.cli import main; main()")
"""With the project's own code, wherever the command is installed from."""
TINY = """\
recipes:
  cnn:
    family: cnn
    data: {source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}
    model: {widths: [8, 16], convolutions: 1, normalisation: group, dropout: 0.2}
    train: {epochs: 6, batch_size: 64, optimizer: adamw, learning_rate: 5e-3, schedule: one_cycle, warmup_fraction: 0.25}
    evaluate: {bootstrap_samples: 50}
    gate: {on_fail: warn}
    export: {latency_runs: 5}
  unet:
    family: unet
    data: {source: digit_scenes, path: requirements.lock, scenes: 60, size: 33, smallest_digit: 12, largest_digit: 24}
    model: {depth: 2, base_width: 4, normalisation: group}
    train: {epochs: 2, batch_size: 16, optimizer: adamw, learning_rate: 5e-3, loss: cross_entropy_dice}
    evaluate: {bootstrap_samples: 50}
    gate: {on_fail: warn}
    export: {latency_runs: 5}
  lstm:
    family: lstm
    data: {source: docstrings, path: requirements.lock, max_per_library: 60, vocabulary_size: 500, max_tokens: 32}
    model: {embedding_size: 8, hidden_size: 8}
    train: {epochs: 2, batch_size: 32, optimizer: adamw, learning_rate: 5e-3}
    evaluate: {bootstrap_samples: 50}
    gate: {on_fail: warn}
    export: {latency_runs: 5}
cluster:
  workers: 0
tracking:
  system_metrics: false
"""


class Project:
    """A folder in which `dvc` runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_dir = Path(sys.executable).parent
        self.environment = {
            # Python leaves its compiled modules beside the project's, as it does where nobody told it not to.
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("DVC_", "MLFLOW_", "RAY_")) and name != "PYTHONDONTWRITEBYTECODE"
            },
            "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_NO_ANALYTICS": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        """Return a command line whose program is taken from this virtual environment where it has it."""
        program = shutil.which(arguments[0], path=self.environment["PATH"])
        assert program, arguments[0]
        return [program, *arguments[1:]]

    def run(self, *arguments: str, code: int | None = 0) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own."""
        log = (self.folder / "start.log").open("wb")
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell that starts programs in the background has them ignore Ctrl-C, and so would all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def change(self, old: str, new: str) -> None:
        """Edit params.yaml."""
        path = self.folder / "params.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def stages_run(self, output: str) -> list[str]:
        """Return the stages that `dvc repro` ran, in order."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def make_project(root: Path, folder: Path, params: Mapping[str, str] | None = None) -> Project:
    """Copy the project's tracked and new files, and commit them with the small recipes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name.startswith(COPIED) and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    text = TINY
    for old, new in (params or {}).items():
        assert old in text
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.email", "test@trainyard.invalid")
    project.run("git", "config", "user.name", "test")
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "start")
    return project


@pytest.fixture(scope="session")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the whole pipeline ran once."""
    made = make_project(root, tmp_path_factory.mktemp("project"))
    made.first_output = made.run("dvc", "repro")  # type: ignore[attr-defined]
    return made


@pytest.fixture(scope="module")
def one(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose recipe cnn was exported once."""
    made = make_project(root, tmp_path_factory.mktemp("one"))
    made.environment["PYTHONPATH"] = "src"
    made.run("dvc", "repro", "export@cnn")
    return made


def rows(project: Project, query: str) -> list[tuple[str, ...]]:
    """Return what MLflow's store answers."""
    with sqlite3.connect(project.folder / "mlflow.db") as connection:
        return list(connection.execute(query))
