"""Three small recipes by `dvc repro` and by `trainyard repro`: seconds of both, and whether what they leave is the same.

    python benchmarks/side_by_side.py --folder /tmp/side --workers 1

The data are prepared beforehand, so that the seconds are those of the trainings and of DVC's own work. Compared by sha256 is
what the stages made, without what was measured by the clock and the names of the MLflow runs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.killed_repro import digests  # noqa: E402
from tests.pipeline.conftest import TRAINYARD, Project, make_project  # noqa: E402

RECIPES = ("cnn", "unet", "lstm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the projects, which are made anew")
    parser.add_argument("--workers", default="1", help="cluster.workers")
    parser.add_argument("--together", default="2")
    arguments = parser.parse_args()
    trainings = [f"train@{name}" for name in RECIPES]
    found = []
    ways = (
        ("serial", ("dvc", "repro", *trainings)),
        ("side by side", (*TRAINYARD, "repro", *trainings, "-j", arguments.together)),
    )
    for name, command in ways:
        project = prepared(arguments.folder / name.replace(" ", "-"), arguments.workers)
        began = time.monotonic()
        run(project, *command)
        print(f"{name}: {time.monotonic() - began:.1f} s, {arguments.workers} workers a training", flush=True)
        found.append({file: value for recipe in RECIPES for file, value in digests(project.folder, recipe).items()})
    names = [{name for name in digests if "run.json" not in name} for digests in found]
    differing = sorted(name for name in names[0] | names[1] if found[0].get(name) != found[1].get(name))
    print(f"{len(names[0])} files, {len(differing)} differ {', '.join(differing)}")
    sys.exit(bool(differing))


def prepared(folder: Path, workers: str) -> Project:
    """Return a project of its own whose data are prepared."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project = make_project(ROOT, folder, {"workers: 0": f"workers: {workers}"})
    project.environment["PYTHONPATH"] = "src"
    run(project, "dvc", "repro", *(f"prepare@{name}" for name in RECIPES))
    return project


def run(project: Project, *arguments: str) -> None:
    """Run a command to its end, however long the machine takes."""
    done = subprocess.run(
        project.command(*arguments), cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False
    )
    (project.folder / "output.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
