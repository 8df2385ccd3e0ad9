"""`dvc repro` killed at random moments of all stages, run once more, and compared with never having been killed.

    python benchmarks/killed_repro.py --kills 50 --folder /tmp/killed

Each kill begins with a project in which the stages before a chosen one are done. `dvc repro` starts, and after a random time
within that stage, DVC's own work before and after it included, SIGKILL goes to dvc, to its group, or to the stage alone.
Then `trainyard repair && dvc repro` runs to the end, as `make run` does. What every stage wrote must have the sha256 of the
uninterrupted run; left out are the seconds and rates that were measured, and the number of the MLflow run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipeline.conftest import Project, make_project  # noqa: E402

RECIPES = ("cnn", "unet", "lstm")
STAGES = ("prepare", "train", "evaluate", "gate", "export")
MEASURED = ("seconds", "samples_per_s", "latency", "throughput", "batch_32", "speedup", "memory_mb")
CARDS = ("README.md", "card.html", "bundle.json")
"""Of a model: they state what was measured, and its hash."""
NAMES = ("run_id", "run_key")
"""Of the run, which are others each time."""
ORPHAN_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--with-workers", type=int, default=5, help="of them, so many with two Ray workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="for the projects; uninterrupted ones there are used again")
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    same, longest, orphans = 0, 0.0, 0
    for number in range(arguments.kills):
        workers = 2 if number >= arguments.kills - arguments.with_workers else 0
        recipe = "cnn" if workers else generator.choice(RECIPES)
        stage = "train" if workers else STAGES[number % len(STAGES)]
        states = reference(arguments.folder / f"workers-{workers}", workers, recipe)
        victim = generator.choice(("dvc", "group", "stage"))
        spent, left = kill_and_repeat(arguments.folder / "trial", states, recipe, stage, victim, generator)
        differing = differences(states["export"][0], arguments.folder / "trial", recipe)
        same += not differing
        longest, orphans = max(longest, spent), orphans + bool(left)
        what = f"{number + 1:3} {stage}@{recipe}, {workers} workers, {victim}: {spent:.1f} s to the last process"
        print(f"{what}; {differing or 'identical'}", flush=True)
        for pid in left:
            psutil.Process(pid).kill()
    print(f"{same} of {arguments.kills} identical")
    print(f"{orphans} with processes left after {ORPHAN_SECONDS:.0f} s; longest {longest:.1f} s")
    sys.exit(same != arguments.kills)


States = dict[str, tuple[Path, float]]
"""By stage: the project after it, and the seconds it took with DVC's own work."""


def reference(folder: Path, workers: int, recipe: str) -> States:
    """Run a recipe uninterrupted, and keep the project as it was after each stage; once for all kills."""
    if not (folder / "start").is_dir():
        (folder / "new").mkdir(parents=True)
        make_project(ROOT, folder / "new", {"workers: 0": f"workers: {workers}"})
        (folder / "new").rename(folder / "start")
    states: States = {"": (folder / "start", 0.0)}
    at = folder / "start"
    for stage in STAGES:
        place = folder / f"{recipe}-{stage}"
        seconds = place.with_suffix(".seconds")
        if not seconds.is_file():
            shutil.rmtree(place, ignore_errors=True)
            project = copy(at, place)
            began = time.monotonic()
            run(project, "dvc", "repro", "-s", f"{stage}@{recipe}")
            seconds.write_text(f"{time.monotonic() - began:.1f}")
            print(f"    {stage}@{recipe} uninterrupted, {workers} workers: {seconds.read_text()} s", flush=True)
        states[stage] = place, float(seconds.read_text())
        at = place
    return states


def run(project: Project, *arguments: str) -> None:
    """Run a command to its end, however long the machine takes."""
    done = subprocess.run(
        project.command(*arguments), cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} in {project.folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def kill_and_repeat(
    folder: Path,
    states: States,
    recipe: str,
    stage: str,
    victim: str,
    generator: random.Random,
    patience: float = ORPHAN_SECONDS,
) -> tuple[float, list[int]]:
    """Kill a repro within a stage and run it once more; return the seconds until all had ended, and who had not."""
    before = ("", *STAGES)[STAGES.index(stage)]
    shutil.rmtree(folder, ignore_errors=True)
    project = copy(states[before][0], folder)
    project.environment["TRAINYARD_TRIAL"] = mark = f"{os.getpid()}-{time.monotonic_ns()}"
    started = project.start("dvc", "repro", f"evaluate@{recipe}", f"export@{recipe}")
    time.sleep(generator.uniform(0, states[stage][1]))
    children = [child for child in psutil.Process(started.pid).children() if "pipeline/" in " ".join(child.cmdline())]
    if victim == "group":
        os.killpg(started.pid, signal.SIGKILL)
    elif victim == "stage" and children:
        children[0].kill()
    else:
        os.kill(started.pid, signal.SIGKILL)
    began = time.monotonic()
    # dvc itself says that its stage failed, and ends.
    started.wait()
    while (left := marked(mark)) and time.monotonic() - began < patience:
        time.sleep(0.1)
    spent = time.monotonic() - began
    run(project, "trainyard", "repair")
    run(project, "dvc", "repro", f"evaluate@{recipe}", f"export@{recipe}")
    return spent, left


def differences(expected: Path, found: Path, recipe: str) -> list[str]:
    """Return the outputs of a recipe that are not the same in two projects."""
    one, other = digests(expected, recipe), digests(found, recipe)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def digests(folder: Path, recipe: str) -> dict[str, str]:
    """Return the sha256 of every output of a recipe, without what was measured by the clock."""
    files = [path for top in ("data/prepared", "models", "reports") for path in (folder / top / recipe).rglob("*")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest()
        for path in files
        if path.is_file() and path.name not in (".gitignore", *CARDS)
    }


def content(path: Path) -> bytes:
    """Return a file without times and rates, and without the names of the run."""
    if path.name in ("train.json", "evaluate.json", "export.json", "run.json"):
        values = json.loads(path.read_text())
        kept = {key: value for key, value in values.items() if not measured(key) and key not in NAMES}
        return json.dumps(kept).encode()
    if path.name == "history.csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return json.dumps([{key: value for key, value in row.items() if not measured(key)} for row in rows]).encode()
    return path.read_bytes()


def measured(key: str) -> bool:
    return any(word in key for word in MEASURED)


def marked(mark: str) -> list[int]:
    """Return the processes that a trial started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TRAINYARD_TRIAL") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def copy(source: Path, target: Path) -> Project:
    shutil.copytree(source, target, symlinks=True)
    return Project(target)


if __name__ == "__main__":
    main()
