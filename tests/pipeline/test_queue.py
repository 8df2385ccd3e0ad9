"""DVC's own queue of experiments, two at a time, each on a private Ray: what would meet when both start does not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import make_project, rows

pytestmark = [pytest.mark.pipeline, pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1600)]
RATES = (1e-3, 2e-2)
PATIENCE = 1500


def experiments(shown: Any) -> list[dict[str, Any]]:
    """Return what `dvc exp show --json` says of each experiment, wherever it stands in it."""
    found = []
    if isinstance(shown, dict):
        if isinstance(shown.get("data"), dict) and "params" in shown["data"]:
            found.append(shown)
        shown = list(shown.values())
    for inner in shown if isinstance(shown, list) else []:
        found += experiments(inner)
    return found


def test_two_queued_experiments_at_a_time_are_two_whole_runs(root: Path, tmp_path: Path) -> None:
    project = make_project(root, tmp_path, {"workers: 0": "workers: 1"})
    project.run("dvc", "repro", "prepare@cnn")
    project.run("git", "add", "dvc.lock")
    project.run("git", "commit", "-q", "-m", "data prepared")
    for rate in RATES:
        name = f"rate-{rate:g}".replace(".", "-")
        project.run("dvc", "exp", "run", "--queue", "-n", name, "-S", f"recipes.cnn.train.learning_rate={rate}", "train@cnn")
    done = subprocess.run(
        project.command("dvc", "exp", "run", "--run-all", "-j", "2"),
        cwd=tmp_path,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status = project.run("dvc", "queue", "status")
    assert status.count("Success") == 2, status
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    rates = {
        entry["data"]["params"]["params.yaml"]["data"]["recipes"]["cnn"]["train"]["learning_rate"]
        for entry in experiments(shown)
    }
    assert set(RATES) <= rates
    # Both are in the project's own store, though their folders are gone.
    assert rows(project, "select status, count(*) from runs group by status") == [("FINISHED", 2)]
    rate = "select distinct value from params where key = 'train.learning_rate'"
    assert {float(value) for (value,) in rows(project, rate)} == set(RATES)
