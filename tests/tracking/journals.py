"""Journals as stages leave them, and a poster that is driven by hand."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from trainyard.tracking.journal import Journal
from trainyard.tracking.poster import Poster

EPOCHS = 4


def opening(uri: str, **changes: Any) -> dict[str, Any]:
    """Return what a stage says first of its run."""
    values = {
        "uri": uri,
        "experiment": "digits",
        "artifacts": None,
        "run_key": uuid.uuid4().hex,
        "run_id": None,
        "fingerprint": "digits-0123456789abcdef",
        "restored": False,
        "params": {f"train.param_{number}": str(number) for number in range(120)},
        "tags": {"trainyard.recipe": "digits"},
        "dataset": {"name": "digits", "digest": "0" * 32, "source_type": "trainyard", "source": "{}", "profile": "{}"},
    }
    return {**values, **changes}


def begin(root: Path, values: dict[str, Any]) -> Journal:
    """Begin a training's journal."""
    journal = Journal.create(root, "train", "digits", values)
    journal.append("status", {"status": "RUNNING", "spool": str(root / "spool.jsonl")}, at=1_000_000)
    return journal


def whole(root: Path, values: dict[str, Any]) -> Journal:
    """Write the journal of a finished training: curves, a tag, a file, its status; and let it go."""
    journal = begin(root, values)
    for epoch in range(EPOCHS):
        points = [("train/loss", 4.0 - epoch, 1_000_000 + epoch, epoch), ("val/loss", 5.0 - epoch, 1_000_000 + epoch, epoch)]
        journal.append("metrics", {"points": points, "once": True})
    journal.append("metrics", {"points": [("best/epoch", 4.0, 1_500_000, 0)], "once": False})
    journal.append("tags", {"arithmetic": "fp32"})
    report = root / "report.json"
    report.write_text("{}")
    journal.append("artifact", {"file": journal.add_file(report), "folder": "evaluate"})
    journal.append("status", {"status": "FINISHED"}, at=2_000_000)
    journal.append("end", {})
    journal.release()
    return journal


def drive(poster: Poster, tries: int = 400) -> int:
    """Work until all is sent, without the poster's pauses between two attempts; return how many attempts failed."""
    failed = 0
    while poster.waiting():
        if not poster.work():
            failed += 1
            assert failed < tries, [sending.state for sending in poster.held.values()]
            for pace in poster.paces.values():
                pace.not_before = 0.0
    return failed


def the_run(client: MlflowClient, run_key: str) -> Run:
    """Return the only run of a key."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`trainyard.run_key` = '{run_key}'")
    assert len(found) == 1, f"{len(found)} runs of one key"
    return found[0]


def curve(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    """Return (step, value) of all stored points, in their order."""
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))


def assert_whole(client: MlflowClient, values: dict[str, Any]) -> Run:
    """Require that all of `whole` is stored, each thing once."""
    run = the_run(client, values["run_key"])
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.info.end_time == 2_000_000
    assert curve(client, run_id, "train/loss") == [(epoch, 4.0 - epoch) for epoch in range(EPOCHS)]
    assert curve(client, run_id, "val/loss") == [(epoch, 5.0 - epoch) for epoch in range(EPOCHS)]
    assert curve(client, run_id, "best/epoch") == [(0, 4.0)]
    assert run.data.params == values["params"]
    assert run.data.tags["arithmetic"] == "fp32"
    assert len(run.inputs.dataset_inputs) == 1
    assert [file.path for file in client.list_artifacts(run_id, "evaluate")] == ["evaluate/report.json"]
    return run
