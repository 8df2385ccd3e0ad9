"""`trainyard reproduce` on five finished runs of each family: how many come out bit for bit.

    python benchmarks/reproductions.py --folder /tmp/reproductions

A project of small recipes trains and evaluates each family with five seeds. Then every run, the older ones too, is done again
from what it recorded: its commit, its uncommitted parameters, its data. Counted is what the command itself says; its exit code
must agree. What is finished in the folder is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipeline.conftest import TINY, TRAINYARD, Project, make_project  # noqa: E402

FAMILIES = {"cnn": "{epochs: 6, ", "unet": "{epochs: 2, batch_size: 16, ", "lstm": "{epochs: 2, batch_size: 32, "}
"""By family: how its block `train` begins in the small recipes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the project; one that is there is gone on with")
    parser.add_argument("--runs", type=int, default=5, help="of each family")
    parser.add_argument("--workers", default="0", help="cluster.workers")
    arguments = parser.parse_args()
    place = arguments.folder / f"workers-{arguments.workers}"
    project = opened(place, arguments.workers)
    record = place / "reproductions.json"
    done: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    for seed in range(arguments.runs):
        for family in FAMILIES:
            if (name := f"{family} {seed}") not in done:
                done[name] = {"run": trained(project, family, seed, arguments.workers)}
                record.write_text(json.dumps(done, indent=2))
    for name, entry in done.items():
        if "identical" not in entry:
            began = time.monotonic()
            entry |= reproduced(project, entry["run"])
            record.write_text(json.dumps(done, indent=2))
            print(f"{name}: {entry['said']} ({time.monotonic() - began:.0f} s)", flush=True)
    same = sum(entry["identical"] for entry in done.values())
    print(f"{same} of {len(done)} bit-identical, {arguments.workers} workers")
    sys.exit(same != len(done))


def opened(place: Path, workers: str) -> Project:
    """Return the project in a folder, made if it is not there."""
    if not (place / ".git" / "refs" / "heads" / "main").is_file():
        place.mkdir(parents=True, exist_ok=True)
        made = make_project(ROOT, place, {"workers: 0": f"workers: {workers}"})
        made.environment["PYTHONPATH"] = "src"
        run(made, "dvc", "repro", *(f"prepare@{family}" for family in FAMILIES))
        run(made, "git", "add", "-A")
        run(made, "git", "commit", "-q", "-m", "data prepared")
    project = Project(place)
    project.environment["PYTHONPATH"] = "src"
    return project


def trained(project: Project, family: str, seed: int, workers: str) -> str:
    """Train and evaluate a family with a seed, which is committed nowhere, and return the id of its run."""
    text = TINY.replace("workers: 0", f"workers: {workers}")
    begins = f"train: {FAMILIES[family]}"
    if begins not in text:
        sys.exit(f"the small recipes have no block that begins with '{begins}'")
    (project.folder / "params.yaml").write_text(text.replace(begins, f"{begins}seed: {seed}, "))
    run(project, "dvc", "repro", f"evaluate@{family}")
    identity: dict[str, str] = json.loads((project.folder / "models" / family / "run.json").read_text())
    return identity["run_id"]


def reproduced(project: Project, run_id: str) -> dict[str, Any]:
    """Do a run again, and return what the command says of it."""
    done = subprocess.run(
        project.command(*TRAINYARD, "reproduce", run_id, "--json"),
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout[done.stdout.index("{\n") :])
    except ValueError:
        return {"identical": False, "said": f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"}
    identical = bool(report["identical"]) and done.returncode == 0
    first = report["first"] or {}
    differs = f"differs: {first.get('what')} {first.get('recorded')} -> {first.get('found')}"
    return {"identical": identical, "said": ", ".join(report["compared"]) + " the same" if identical else differs}


def run(project: Project, *arguments: str) -> None:
    """Run a command to its end, however long the machine takes."""
    done = subprocess.run(
        project.command(*arguments), cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
