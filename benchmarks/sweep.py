"""The sweep of params.yaml, 12 digits trials: what it costs beside their training, and what is left of it after three kills.

    python benchmarks/sweep.py --folder /tmp/sweep                 # overhead
    python benchmarks/sweep.py --folder /tmp/sweep --kills 3       # SIGKILL to the driver, three times, then to the end

Overhead: seconds of the command, from its start to its end, times the trials that ran at a time, against the trials' own
seconds of training, from the first step to the last checkpoint. It holds the start of the interpreter, of Ray and of the
processes, all imports, searching, recording, the charts and the end of Ray. With `--kills` the trials' seconds are those that
count; what is trained once more after a kill is overhead, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipeline.conftest import TRAINYARD, Project, make_project  # noqa: E402

PATIENCE = 600.0
"""Seconds until a sweep has its first epoch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the project, which is made anew")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--within", type=float, default=15.0, help="most seconds from the first epoch to a kill")
    parser.add_argument("--scheduler", choices=("asha", "none"), default="asha")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    project = fresh(arguments.folder, arguments.scheduler)
    generator = random.Random(arguments.seed)
    for number in range(arguments.kills):
        wait = generator.uniform(0, arguments.within)
        print(f"kill {number + 1}, {wait:.1f} s after its first epoch: {kill_after(project, wait)}", flush=True)
    began = time.monotonic()
    command = project.command(*TRAINYARD, "sweep", "cnn")
    output = subprocess.run(command, cwd=project.folder, env=project.environment, capture_output=True, text=True).stdout
    seconds = time.monotonic() - began
    print(output)
    sys.exit(judge(project, seconds, arguments.kills))


def fresh(folder: Path, scheduler: str) -> Project:
    """Return a project with this one's own recipe for digits, its data prepared."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project = make_project(ROOT, folder)
    text = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("    trials: 12\n", f"    trials: 12\n    scheduler: {scheduler}\n"))
    project.environment["PYTHONPATH"] = "src"
    project.run("dvc", "repro", "prepare@cnn")
    return project


def kill_after(project: Project, seconds: float) -> str:
    """Start the sweep and kill its driver so long after the first epoch that it trains; return how far the trials are."""
    before = epochs(project)
    started = project.start(*TRAINYARD, "sweep", "cnn")
    until = time.monotonic() + PATIENCE
    while epochs(project) == before and started.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(seconds)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    states = [trial["state"] for trial in records(project)]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no trial yet"


def records(project: Project) -> list[dict[str, Any]]:
    paths = sorted((project.folder / ".trainyard" / "studies" / "cnn" / "sweep").glob("*/trials/*/trial.json"))
    return [json.loads(path.read_text()) for path in paths]


def epochs(project: Project) -> int:
    return sum(len(trial["history"]) for trial in records(project))


def judge(project: Project, seconds: float, kills: int) -> int:
    """Print the figures; return 1 where they are not what is promised."""
    found = json.loads((project.folder / "reports" / "cnn" / "sweep" / "sweep.json").read_text())
    trials = found["trials"]
    values = {json.dumps(trial["values"], sort_keys=True) for trial in trials}
    with sqlite3.connect(project.folder / "mlflow.db") as connection:
        tags = "select count(distinct run_uuid) from tags where key = 'trainyard.trial'"
        (runs,) = connection.execute(tags).fetchone()
    attempts = sum(trial["attempts"] for trial in trials)
    print(
        f"{len(trials)} trials with {len(values)} different values, {runs} runs in MLflow, {attempts} attempts, {kills} kills"
    )
    concurrent = len(os.sched_getaffinity(0))
    training = found["training_seconds"]
    overhead = seconds * concurrent / training - 1
    if not kills:
        print(
            f"{epochs(project)} epochs; {seconds:.1f} s, {concurrent} trials at a time, "
            f"{training:.1f} s of training: overhead {overhead:.0%}"
        )
    return int(len(trials) != 12 or len(values) != 12 or runs != 12)


if __name__ == "__main__":
    main()
