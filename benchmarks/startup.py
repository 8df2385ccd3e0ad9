"""What each command and stage costs before and around its work: processor seconds, and the modules that it imports.

    python benchmarks/startup.py --repeats 5
    python benchmarks/startup.py --repeats 5 --against ../before --json startup.json
    python benchmarks/startup.py --repeats 1 --modules

A copy of the project with one recipe of a few hundred digits is made for each side, and both sides take turns. Seconds are
user and system time of a command and of all processes that it left to this one, which a machine with much else to do changes
far less than time on the clock. Medians are shown.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("src/", "pipeline/", "champions/", ".dvc/", "dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock")
PR_SET_CHILD_SUBREAPER = 36
PARAMS = """\
recipes:
  cnn:
    family: cnn
    data: {source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}
    model: {widths: [8, 16], convolutions: 1, normalisation: group, dropout: 0.2}
    train: {epochs: 1, batch_size: 64, optimizer: adamw, learning_rate: 5e-3}
    evaluate: {bootstrap_samples: 50}
    export: {latency_runs: 5}
cluster:
  workers: WORKERS
tracking:
  system_metrics: false
"""
HEAVY = (
    "torch", "pytorch_lightning", "torchmetrics", "ray", "mlflow", "onnx", "onnxruntime", "onnxscript", "sklearn", "scipy",
    "matplotlib", "pandas", "pyarrow", "sqlalchemy", "tokenizers", "PIL", "numpy", "pydantic", "requests", "rich", "typer",
    "sympy", "tensorboard", "dvc",
)  # fmt: skip
RECORDER = """\
import atexit, json, os, resource, sys

def _write(folder=os.environ["STARTUP_MODULES"]):
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"command": sys.orig_argv, "modules": sorted(sys.modules), "seconds": used.ru_utime + used.ru_stime}
    with open(os.path.join(folder, f"{os.getpid()}.json"), "w") as file:
        json.dump(facts, file)

atexit.register(_write)
"""


@dataclass(frozen=True)
class Entry:
    """One way in."""

    name: str
    command: tuple[str, ...]
    forget: tuple[str, ...] = ()
    """What is deleted before each run."""
    workers: int = 0


STAGE_FOLDERS = ("data/prepared/cnn", "models/cnn", "reports/cnn")
TRAIN = ("python", "pipeline/train.py", "cnn", *STAGE_FOLDERS)
ENTRIES = (
    Entry("python", ("python", "-c", "pass")),
    Entry("trainyard --help", ("python", "-m", "trainyard.cli", "--help")),
    Entry("trainyard check", ("python", "-m", "trainyard.cli", "check")),
    Entry("trainyard report", ("python", "-m", "trainyard.cli", "report")),
    Entry("prepare", ("python", "pipeline/prepare.py", "cnn", STAGE_FOLDERS[0]), ("data/prepared",)),
    Entry("train, no workers", TRAIN, (".trainyard", "models", "reports")),
    Entry("train, two workers", TRAIN, (".trainyard", "models", "reports"), workers=2),
    Entry("train, no workers, new store", TRAIN, (".trainyard", "models", "reports", "mlflow.db", "mlartifacts")),
    Entry("evaluate", ("python", "pipeline/evaluate.py", "cnn", *STAGE_FOLDERS), (".trainyard",)),
    Entry("export", ("python", "pipeline/export.py", "cnn", *STAGE_FOLDERS), (".trainyard",)),
    Entry("import of a worker", ("python", "-c", "from trainyard.training import spare; spare.load()")),
    Entry("import of the poster", ("python", "-c", "import trainyard.tracking.poster")),
    Entry("dvc repro, nothing to do", ("dvc", "repro")),
    Entry("dvc --version", ("dvc", "--version")),
)


class Side:
    """A copy of a project, in which commands run."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=source, capture_output=True, check=True
        )
        for name in listed.stdout.decode().split("\0"):
            if name.startswith(COPIED) and (source / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, folder / name)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "RAY_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder.parent / f"{folder.name}-notes"),
        }
        self.workers(0)
        for command in (("git", "init", "-q"), ("dvc", "repro")):
            self._finish(command)

    def workers(self, number: int) -> None:
        text = PARAMS.replace("WORKERS", str(number))
        if (self.folder / "pipeline" / "gate.py").is_file():
            # So short a training is worse than the baseline. Earlier states know no gate.
            text = text.replace("    export:", "    gate: {on_fail: warn}\n    export:")
        (self.folder / "params.yaml").write_text(text)

    def seconds(self, entry: Entry, modules: Path | None = None) -> float:
        """Run one command; return the processor seconds that it took."""
        for name in entry.forget:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if (self.folder / name).is_file():
                (self.folder / name).unlink()
        self.workers(entry.workers)
        before = _children()
        self._finish(entry.command, modules)
        _reap()
        self.workers(0)
        return _children() - before

    def _finish(self, command: Sequence[str], modules: Path | None = None) -> None:
        environment = dict(self.environment)
        if modules is not None:
            (modules / "sitecustomize.py").write_text(RECORDER)
            environment["PYTHONPATH"] = f"{modules}{os.pathsep}{environment['PYTHONPATH']}"
            environment["STARTUP_MODULES"] = str(modules)
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap(patience: float = 30.0) -> None:
    """Wait for the processes that a command left behind, so that what they took is counted."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout of the project, the side `before`")
    parser.add_argument("--only", nargs="*", help="beginnings of the names of what is run")
    parser.add_argument("--modules", action="store_true", help="say what each process of each command imports, instead")
    parser.add_argument("--json", type=Path, help="a file for all values")
    arguments = parser.parse_args()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    entries = [entry for entry in ENTRIES if not arguments.only or entry.name.startswith(tuple(arguments.only))]
    with tempfile.TemporaryDirectory() as name:
        sides = {"now": Side(ROOT, Path(name) / "now")}
        if arguments.against:
            sides = {"before": Side(arguments.against.resolve(), Path(name) / "before"), **sides}
        if arguments.modules:
            for side, project in sides.items():
                for entry in entries:
                    show_modules(side, project, entry)
            return
        values = measure(sides, entries, arguments.repeats)
    show(values, list(sides))
    if arguments.json:
        arguments.json.write_text(f"{json.dumps(values, indent=2)}\n")


def measure(sides: dict[str, Side], entries: Sequence[Entry], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return processor seconds by entry and side, measured in turns."""
    values: dict[str, dict[str, list[float]]] = {entry.name: {side: [] for side in sides} for entry in entries}
    for _ in range(repeats):
        for entry in entries:
            for side, project in sides.items():
                values[entry.name][side].append(project.seconds(entry))
                print(f"{entry.name}, {side}: {values[entry.name][side][-1]:.2f} s", file=sys.stderr, flush=True)
    return values


def show(values: dict[str, dict[str, list[float]]], sides: Sequence[str]) -> None:
    print("| | " + " | ".join(sides) + (" | ratio |" if len(sides) > 1 else " |"))
    print("|---" * (len(sides) + 1 + (len(sides) > 1)) + "|")
    for name, by_side in values.items():
        medians = [statistics.median(by_side[side]) for side in sides]
        cells = [f"{median:.2f}" for median in medians]
        if len(sides) > 1:
            cells.append(f"{medians[1] / medians[0]:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def show_modules(side: str, project: Side, entry: Entry) -> None:
    with tempfile.TemporaryDirectory() as name:
        project.seconds(entry, Path(name))
        for path in sorted(Path(name).glob("*.json")):
            facts = json.loads(path.read_text())
            modules = set(facts["modules"])
            heavy = " ".join(module for module in HEAVY if module in modules)
            command = " ".join(facts["command"][1:4])[:60]
            print(f"{side} | {entry.name} | {command} | {len(modules)} modules, {facts['seconds']:.2f} s | {heavy}", flush=True)


if __name__ == "__main__":
    main()
