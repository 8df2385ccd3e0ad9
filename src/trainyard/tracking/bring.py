"""The process that asks a tracking store for runs, and brings what they hold into a folder; fetch.py starts it.

Its line on stdin is {"uri", "folder", "asked": [{"name", "files"}]}. It writes folder/runs.json, a list in the same order: for
each what was found, or {"problem"}. Files of a run go to folder/<run id>/.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainyard.files import write_whole
from trainyard.masking import headline_of

# First: it sets what MLflow reads when it is imported.
from trainyard.tracking.store import Store

# isort: split
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trainyard.tracking.lookup import runs_called, several

FILES = ("evaluate/predictions.parquet", "evaluate/evaluate.json", "data/card.json", "export/export.json")
WEIGHTS = ("weights/model.safetensors", "export/recipe.json")
"""Of models that are asked again, because no file holds their predictions."""
ASKED_AGAIN = ("segmentation", "forecasting")
CURVES = re.compile(r"val/.+|train/loss|learning_rate|gradient_norm|throughput/samples_per_s")
"""Metrics with a value an epoch."""
PEAKS = re.compile(r"system/(.+/)?(gpu_)?(.+_)?memory_(usage|peak)_megabytes")


def main() -> None:
    """Answer the one question on stdin."""
    question = json.loads(sys.stdin.readline())
    folder = Path(question["folder"])
    client = Store(question["uri"]).client
    answers = [answer(client, asked, folder) for asked in question["asked"]]
    write_whole(folder / "runs.json", json.dumps(answers).encode())


def answer(client: MlflowClient, asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what is known of one run, or why nothing is; `away` says that the store did not answer."""
    try:
        found = runs_called(client, asked["name"])
        if len(found) != 1:
            problem = several(asked["name"], found) if found else "has no such run"
            return {"problem": problem, "away": False, "several": bool(found)}
        return _described(client, found[0], folder if asked["files"] else None)
    except MlflowException as error:
        return {"problem": headline_of(error), "away": True, "several": False}


def _described(client: MlflowClient, run: Run, folder: Path | None) -> dict[str, Any]:
    info, data = run.info, run.data
    histories = {
        key: client.get_metric_history(info.run_id, key)
        for key in data.metrics
        if CURVES.fullmatch(key) or PEAKS.fullmatch(key)
    }
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
        "params": dict(data.params),
        "tags": dict(data.tags),
        "metrics": dict(data.metrics),
        "curves": {
            key: sorted({point.step: point.value for point in points}.items())
            for key, points in histories.items()
            if CURVES.fullmatch(key)
        },
        "peaks": {key: max(point.value for point in points) for key, points in histories.items() if PEAKS.fullmatch(key)},
        "folder": None if folder is None else str(_files(client, info.run_id, folder / info.run_id)),
    }


def _files(client: MlflowClient, run_id: str, folder: Path) -> Path:
    """Bring those files of a run that it has."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {file.path for part in ("evaluate", "data", "export", "weights") for file in client.list_artifacts(run_id, part)}
    for path in (path for path in FILES if path in there):
        _bring(client, run_id, path, folder)
    kind = None
    with suppress(OSError, ValueError):
        kind = json.loads((folder / "data" / "card.json").read_text(encoding="utf-8"))["kind"]
    if kind in ASKED_AGAIN:
        for path in (path for path in WEIGHTS if path in there):
            _bring(client, run_id, path, folder)
    return folder


def _bring(client: MlflowClient, run_id: str, path: str, folder: Path) -> None:
    """Bring a file to its own place in a folder, wherever in there MLflow puts it."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    came = Path(client.download_artifacts(run_id, path, str(place.parent)))
    if came != place:
        came.replace(place)


if __name__ == "__main__":
    main()
